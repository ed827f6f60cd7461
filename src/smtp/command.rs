//! Commands (RFC 5321, 4.1), their paths and parameters, and the reply to each that is wrong.
//!
//! Which commands are offered, and in which order they may come, is for the session to say.

use crate::smtp::parameters::{MailParameters, ParameterError, RcptParameters};
use crate::smtp::path::{ForwardPath, ReversePath, take_forward_path, take_reverse_path};
use crate::smtp::reply::{EnhancedCode, Reply};

/// A command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    /// Greets, and asks for the extensions.
    Ehlo {
        /// The name that the client gives itself: letters, digits and `-._:[]` only.
        name: String,
    },
    /// Greets as of old.
    Helo {
        /// As for EHLO.
        name: String,
    },
    /// Starts a transaction.
    Mail {
        /// Who the message comes from.
        from: ReversePath,
        /// What follows the path.
        parameters: MailParameters,
    },
    /// Adds a recipient.
    Rcpt {
        /// Who the message goes to.
        to: ForwardPath,
        /// What follows the path.
        parameters: RcptParameters,
    },
    /// The message follows, ended by a dot.
    Data,
    /// A chunk of the message follows at once (RFC 3030, 2).
    Bdat {
        /// Its octets.
        size: u64,
        /// Whether it is the last one.
        last: bool,
    },
    /// Forgets the transaction.
    Rset,
    /// Does nothing.
    Noop,
    /// Says good-bye.
    Quit,
    /// Asks whether a user exists.
    Vrfy,
    /// Asks who is on a list.
    Expn,
    /// Asks for help.
    Help,
    /// Goes on encrypted (RFC 3207).
    StartTls,
    /// Signs in (RFC 4954).
    Auth {
        /// The mechanism as the client wrote it.
        mechanism: String,
        /// The initial response, base64.
        initial: Option<String>,
    },
}

/// Why a line is no command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CommandError {
    /// No verb that is known.
    Unknown,
    /// Control characters or broken UTF-8.
    IllegalCharacters,
    /// The verb wants other arguments.
    Arguments,
    /// Something else than a reverse path after `MAIL FROM:`.
    ReversePath,
    /// Something else than a forward path after `RCPT TO:`.
    ForwardPath,
    /// A parameter that is not offered.
    UnknownParameter,
    /// A parameter with a wrong value.
    InvalidParameter,
    /// A UTF-8 address in a MAIL without SMTPUTF8.
    NeedsSmtpUtf8,
    /// A BDAT whose length is not known. Its octets follow and would be read as commands: the
    /// connection has to be closed.
    ChunkSize,
}

impl CommandError {
    /// What to tell the client.
    pub fn reply(self) -> Reply {
        match self {
            CommandError::Unknown => Reply::new(500, EnhancedCode(5, 5, 1), "Command not recognized"),
            CommandError::IllegalCharacters => {
                Reply::new(500, EnhancedCode(5, 5, 2), "Illegal characters in the command line")
            }
            CommandError::Arguments | CommandError::ChunkSize => {
                Reply::new(501, EnhancedCode(5, 5, 4), "Syntax error in arguments")
            }
            CommandError::ReversePath => {
                Reply::new(501, EnhancedCode(5, 1, 7), "Syntax error in the sender's address")
            }
            CommandError::ForwardPath => {
                Reply::new(501, EnhancedCode(5, 1, 3), "Syntax error in the recipient's address")
            }
            // RFC 5321, 4.1.1.11
            CommandError::UnknownParameter => {
                Reply::new(555, EnhancedCode(5, 5, 4), "Parameter not recognized")
            }
            CommandError::InvalidParameter => {
                Reply::new(501, EnhancedCode(5, 5, 4), "Syntax error in a parameter")
            }
            // RFC 6531, 3.5
            CommandError::NeedsSmtpUtf8 => {
                Reply::new(553, EnhancedCode(5, 6, 7), "Such an address needs SMTPUTF8")
            }
        }
    }
}

impl From<ParameterError> for CommandError {
    fn from(error: ParameterError) -> Self {
        match error {
            ParameterError::Unknown => CommandError::UnknownParameter,
            ParameterError::Invalid => CommandError::InvalidParameter,
        }
    }
}

/// Reads a command from a line without its CRLF.
pub fn parse(line: &[u8]) -> Result<Command, CommandError> {
    let line = std::str::from_utf8(line).map_err(|_| CommandError::IllegalCharacters)?;
    if line.chars().any(char::is_control) {
        return Err(CommandError::IllegalCharacters);
    }
    // RFC 5321, 4.1.1: trailing spaces are not to be minded.
    let line = line.trim_end_matches(' ');
    let (verb, arguments) = match line.split_once(' ') {
        Some((verb, arguments)) => (verb, Some(arguments.trim_start_matches(' '))),
        None => (line, None),
    };
    let alone = |command: Command| match arguments {
        None => Ok(command),
        Some(_) => Err(CommandError::Arguments),
    };
    let wanted = || arguments.ok_or(CommandError::Arguments);
    match verb.to_ascii_uppercase().as_str() {
        "EHLO" => Ok(Command::Ehlo { name: host_name(wanted()?)? }),
        "HELO" => Ok(Command::Helo { name: host_name(wanted()?)? }),
        "MAIL" => mail(wanted()?),
        "RCPT" => rcpt(wanted()?),
        "DATA" => alone(Command::Data),
        "BDAT" => bdat(arguments.unwrap_or_default()).ok_or(CommandError::ChunkSize),
        "RSET" => alone(Command::Rset),
        // RFC 5321, 4.1.1.9: a string after NOOP is ignored.
        "NOOP" => Ok(Command::Noop),
        "QUIT" => alone(Command::Quit),
        "VRFY" => wanted().map(|_| Command::Vrfy),
        "EXPN" => wanted().map(|_| Command::Expn),
        "HELP" => Ok(Command::Help),
        "STARTTLS" => alone(Command::StartTls),
        "AUTH" => auth(wanted()?),
        _ => Err(CommandError::Unknown),
    }
}

/// The name is written into the Received field, so it may hold nothing that has a meaning there.
/// Otherwise all is taken that clients call themselves: underscores, no dots, a port.
fn host_name(arguments: &str) -> Result<String, CommandError> {
    let legal = |byte: u8| byte.is_ascii_alphanumeric() || b"-._:[]".contains(&byte);
    if arguments.is_empty() || arguments.len() > 255 || !arguments.bytes().all(legal) {
        return Err(CommandError::Arguments);
    }
    Ok(arguments.to_owned())
}

fn mail(arguments: &str) -> Result<Command, CommandError> {
    let path = after_keyword(arguments, "FROM:").ok_or(CommandError::Arguments)?;
    let (from, rest) = take_reverse_path(path).ok_or(CommandError::ReversePath)?;
    let parameters = MailParameters::parse(rest)?;
    match &from {
        ReversePath::Mailbox(mailbox) if mailbox.needs_smtputf8() && !parameters.smtputf8 => {
            Err(CommandError::NeedsSmtpUtf8)
        }
        _ => Ok(Command::Mail { from, parameters }),
    }
}

fn rcpt(arguments: &str) -> Result<Command, CommandError> {
    let path = after_keyword(arguments, "TO:").ok_or(CommandError::Arguments)?;
    let (to, rest) = take_forward_path(path).ok_or(CommandError::ForwardPath)?;
    Ok(Command::Rcpt { to, parameters: RcptParameters::parse(rest)? })
}

/// What follows `FROM:` or `TO:`. A space after the colon is wrong (RFC 5321, 3.3) and common.
fn after_keyword<'a>(arguments: &'a str, keyword: &str) -> Option<&'a str> {
    let start = arguments.get(..keyword.len())?;
    let rest = arguments.get(keyword.len()..)?;
    start.eq_ignore_ascii_case(keyword).then(|| rest.trim_start_matches(' '))
}

fn bdat(arguments: &str) -> Option<Command> {
    let (size, last) = match arguments.split_once(' ') {
        None => (arguments, false),
        Some((size, word)) if word.trim_start_matches(' ').eq_ignore_ascii_case("LAST") => (size, true),
        Some(_) => return None,
    };
    let is_number = !size.is_empty() && size.bytes().all(|byte| byte.is_ascii_digit());
    let size = is_number.then(|| size.parse().ok()).flatten()?;
    Some(Command::Bdat { size, last })
}

fn auth(arguments: &str) -> Result<Command, CommandError> {
    let (mechanism, initial) = match arguments.split_once(' ') {
        None => (arguments, None),
        Some((mechanism, initial)) => (mechanism, Some(initial.trim_start_matches(' ').to_owned())),
    };
    let legal = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
    if mechanism.is_empty() || mechanism.len() > 20 || !mechanism.bytes().all(legal) {
        return Err(CommandError::Arguments);
    }
    Ok(Command::Auth { mechanism: mechanism.to_owned(), initial })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn commands_are_read_in_any_case() {
        let ehlo = |name: &str| Ok(Command::Ehlo { name: name.to_owned() });
        for (line, command) in [
            ("EHLO mx.example.test", ehlo("mx.example.test")),
            ("ehlo [IPv6:::1]", ehlo("[IPv6:::1]")),
            ("HELO my_pc", Ok(Command::Helo { name: "my_pc".to_owned() })),
            ("data", Ok(Command::Data)),
            ("DATA  ", Ok(Command::Data)),
            ("bdat 12", Ok(Command::Bdat { size: 12, last: false })),
            ("BDAT 0 last", Ok(Command::Bdat { size: 0, last: true })),
            ("RSET", Ok(Command::Rset)),
            ("NOOP", Ok(Command::Noop)),
            ("NOOP what ever", Ok(Command::Noop)),
            ("QUIT", Ok(Command::Quit)),
            ("VRFY alice", Ok(Command::Vrfy)),
            ("EXPN list", Ok(Command::Expn)),
            ("HELP", Ok(Command::Help)),
            ("HELP mail", Ok(Command::Help)),
            ("StartTLS", Ok(Command::StartTls)),
            ("AUTH PLAIN", Ok(Command::Auth { mechanism: "PLAIN".to_owned(), initial: None })),
            (
                "AUTH plain AGE=",
                Ok(Command::Auth { mechanism: "plain".to_owned(), initial: Some("AGE=".to_owned()) }),
            ),
        ] {
            assert_eq!(parse(line.as_bytes()), command, "{line}");
        }
    }

    #[test]
    fn mail_and_rcpt_have_paths_and_parameters() {
        let Ok(Command::Mail { from, parameters }) = parse(b"mail from:<a@b.test> SIZE=5 SMTPUTF8") else {
            panic!("not read")
        };
        assert_eq!((from.as_str(), parameters.size, parameters.smtputf8), ("a@b.test", Some(5), true));
        assert!(matches!(parse(b"MAIL FROM: <>"), Ok(Command::Mail { from: ReversePath::Null, .. })));
        let Ok(Command::Rcpt { to, parameters }) = parse(b"RCPT TO:<\"a b\"@c.test> NOTIFY=NEVER") else {
            panic!("not read")
        };
        assert_eq!(to.as_str(), "\"a b\"@c.test");
        assert!(parameters.notify.is_some());
    }

    #[test]
    fn each_error_has_its_reply() {
        let replies = [
            ("", "500 5.5.1"),
            ("XYZZY", "500 5.5.1"),
            ("GET / HTTP/1.1", "500 5.5.1"),
            ("NOOP \u{0}", "500 5.5.2"),
            ("EHLO a\rb", "500 5.5.2"),
            ("EHLO", "501 5.5.4"),
            ("EHLO ", "501 5.5.4"),
            ("EHLO a b", "501 5.5.4"),
            ("EHLO a(b)", "501 5.5.4"),
            ("MAIL", "501 5.5.4"),
            ("MAIL <a@b.test>", "501 5.5.4"),
            ("MAIL FROM:a@b.test", "501 5.1.7"),
            ("MAIL FROM:<a>", "501 5.1.7"),
            ("MAIL FROM:<a@b.test>SIZE=1", "501 5.5.4"),
            ("MAIL FROM:<a@b.test> SIZE=x", "501 5.5.4"),
            ("MAIL FROM:<a@b.test> BODY=BINARYMIME", "501 5.5.4"),
            ("MAIL FROM:<a@b.test> MAGIC", "555 5.5.4"),
            ("MAIL FROM:<j\u{e9}@b.test>", "553 5.6.7"),
            ("RCPT", "501 5.5.4"),
            ("RCPT TO:<>", "501 5.1.3"),
            ("RCPT TO:<a@b", "501 5.1.3"),
            ("RCPT TO:<a@b.test> NOTIFY=MAYBE", "501 5.5.4"),
            ("RCPT TO:<a@b.test> SIZE=1", "555 5.5.4"),
            ("DATA now", "501 5.5.4"),
            ("QUIT now", "501 5.5.4"),
            ("BDAT", "501 5.5.4"),
            ("BDAT -1", "501 5.5.4"),
            ("BDAT 1 FIRST", "501 5.5.4"),
            ("BDAT 99999999999999999999", "501 5.5.4"),
            ("STARTTLS x", "501 5.5.4"),
            ("AUTH", "501 5.5.4"),
            ("VRFY", "501 5.5.4"),
        ];
        for (line, start) in replies {
            let reply = parse(line.as_bytes()).map_err(|error| error.reply().to_string());
            assert!(matches!(&reply, Err(text) if text.starts_with(start)), "{line}: {reply:?}");
        }
        assert_eq!(parse(b"EHLO \xff"), Err(CommandError::IllegalCharacters));
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..100)) {
            let _ = parse(&bytes);
        }

        #[test]
        fn anything_behind_a_verb_is_read_or_refused(
            verb in "(MAIL FROM:<|RCPT TO:<|EHLO |AUTH |BDAT |MAIL FROM:<a@b.test> |RCPT TO:<a@b.test> )",
            rest in "[\\PC\"\\\\<>@:,=+;\\[\\]]{0,60}",
        ) {
            let _ = parse(format!("{verb}{rest}").as_bytes());
        }
    }
}
