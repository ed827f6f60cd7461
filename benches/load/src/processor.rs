//! The processor time that programs of this machine take (proc(5), /proc/PID/stat).

use std::time::{Duration, Instant};

/// Clock ticks of a second: what Linux gives to every program, whatever the kernel counts in.
const TICKS: f64 = 100.0;

/// Programs by their names, and what they take while nobody asks them anything.
pub struct Programs {
    names: Vec<String>,
    idle: Vec<f64>,
}

impl Programs {
    /// Looks for two seconds at what they take when idle.
    pub fn look(names: &[String]) -> Programs {
        let mut programs = Programs { names: names.to_vec(), idle: vec![0.0; names.len()] };
        if !names.is_empty() {
            let (begun, before) = (Instant::now(), programs.taken());
            std::thread::sleep(Duration::from_secs(2));
            let time = begun.elapsed().as_secs_f64();
            programs.idle =
                programs.taken().iter().zip(&before).map(|(now, before)| (now - before) / time).collect();
        }
        programs
    }

    pub fn names(&self) -> &[String] {
        &self.names
    }

    /// Seconds of processor time that all processes of each program have taken.
    pub fn taken(&self) -> Vec<f64> {
        let mut taken = vec![0.0; self.names.len()];
        for entry in std::fs::read_dir("/proc").expect("/proc").flatten() {
            let Ok(stat) = std::fs::read_to_string(entry.path().join("stat")) else { continue };
            let (Some(open), Some(close)) = (stat.find('('), stat.rfind(')')) else { continue };
            let Some(place) = self.names.iter().position(|name| *name == stat[open + 1..close]) else {
                continue;
            };
            let ticks = stat[close + 1..].split_whitespace().skip(11).take(2);
            taken[place] += ticks.filter_map(|ticks| ticks.parse::<f64>().ok()).sum::<f64>() / TICKS;
        }
        taken
    }

    /// Milliseconds that each program took for each of `requests`, what it takes when idle aside.
    pub fn for_each(&self, before: &[f64], time: Duration, requests: usize) -> Vec<f64> {
        let idle = self.idle.iter().map(|idle| idle * time.as_secs_f64());
        let spent =
            self.taken().into_iter().zip(before).zip(idle).map(|((now, before), idle)| now - before - idle);
        spent.map(|spent| spent.max(0.0) * 1_000.0 / requests.max(1) as f64).collect()
    }
}
