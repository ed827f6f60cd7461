//! Black-box tests: they start the built program, speak to it over real sockets, and assert what a
//! user or another server would notice. One binary, so that a build links once.

mod architecture;
mod corpus;
mod end_to_end;
mod running;
mod state_property;
mod support;
