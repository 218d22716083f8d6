//! What `/proc` says about processes and listening sockets.
//!
//! # How to get it wrong
//! - Splitting `/proc/PID/stat` at spaces: the second field is the program's name in parentheses and may hold spaces and
//!   parentheses. Fields are counted from the *last* `)`.
//! - Counting zombies as alive. On a machine whose first process does not reap (a container), they stay for ever.

use std::fs;
use std::path::Path;

/// The variable that names the replica (its uid) in the environment of each of its processes.
pub(crate) const REPLICA_VARIABLE: &str = "SETPOINT_REPLICA_UID";
/// The variable that names the agent's state directory.
pub(crate) const STATE_VARIABLE: &str = "SETPOINT_STATE";
/// The variable that names the worker; for people.
pub(crate) const WORKER_VARIABLE: &str = "SETPOINT_WORKER";

/// A process, as far as needed here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Stat {
    pub pid: u32,
    pub group: u32,
    pub start_ticks: u64,
    pub zombie: bool,
}

/// Looks at one process. None when there is none with this id.
pub(crate) fn stat(pid: u32) -> Option<Stat> {
    let text = fs::read(format!("/proc/{pid}/stat")).ok()?;
    parse_stat(pid, &String::from_utf8_lossy(&text))
}

fn parse_stat(pid: u32, text: &str) -> Option<Stat> {
    let rest = &text[text.rfind(')')? + 1..];
    // field 3 (state) comes first here; see proc_pid_stat(5)
    let field = |number: usize| rest.split_ascii_whitespace().nth(number - 3);
    Some(Stat {
        pid,
        group: field(5)?.parse().ok()?,
        start_ticks: field(22)?.parse().ok()?,
        zombie: matches!(field(3)?, "Z" | "X" | "x"),
    })
}

/// The live process with this id and this start.
pub(crate) fn live(pid: u32, start_ticks: u64) -> Option<Stat> {
    stat(pid).filter(|stat| !stat.zombie && stat.start_ticks == start_ticks)
}

/// The running system's boot id; empty when it cannot be read.
pub(crate) fn boot_id() -> String {
    fs::read_to_string("/proc/sys/kernel/random/boot_id")
        .map(|text| text.trim().to_owned())
        .unwrap_or_default()
}

fn pids() -> impl Iterator<Item = u32> {
    fs::read_dir("/proc")
        .into_iter()
        .flatten()
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
}

/// A live process with the marks of an agent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Marked {
    pub stat: Stat,
    pub uid: String,
}

/// The live processes that carry the mark of this state directory, oldest first.
pub(crate) fn marked(state_mark: &Path) -> Vec<Marked> {
    use std::os::unix::ffi::OsStrExt as _;
    let mut state = format!("{STATE_VARIABLE}=").into_bytes();
    state.extend_from_slice(state_mark.as_os_str().as_bytes());
    let replica = format!("{REPLICA_VARIABLE}=").into_bytes();
    let mut found: Vec<Marked> = pids()
        .filter_map(|pid| {
            let environment = fs::read(format!("/proc/{pid}/environ")).ok()?;
            let mut variables = environment.split(|byte| *byte == 0);
            if !variables.clone().any(|variable| variable == state) {
                return None;
            }
            let uid = variables.find_map(|variable| variable.strip_prefix(&replica[..]))?;
            let stat = stat(pid).filter(|stat| !stat.zombie)?;
            let uid = String::from_utf8_lossy(uid).into_owned();
            Some(Marked { stat, uid })
        })
        .collect();
    found.sort_by_key(|marked| (marked.stat.start_ticks, marked.stat.pid));
    found
}

/// The live members of a process group.
pub(crate) fn group(group: u32) -> Vec<Stat> {
    pids()
        .filter_map(stat)
        .filter(|stat| stat.group == group && !stat.zombie)
        .collect()
}

/// Who listens on a TCP port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Listener {
    /// One of the processes that were asked about.
    Theirs,
    /// Some other process.
    Other,
    /// Nobody, or it cannot be told.
    Unknown,
}

/// Whether one of `processes` listens on `port` in the agent's network namespace.
pub(crate) fn listener(port: u16, processes: &[u32]) -> Listener {
    let inodes: Vec<String> = ["/proc/net/tcp", "/proc/net/tcp6"]
        .iter()
        .filter_map(|path| fs::read_to_string(path).ok())
        .flat_map(|table| listening(&table, port))
        .collect();
    if inodes.is_empty() {
        return Listener::Unknown;
    }
    for pid in processes {
        let Ok(descriptors) = fs::read_dir(format!("/proc/{pid}/fd")) else {
            // not ours to look at: it cannot be told
            return Listener::Unknown;
        };
        for descriptor in descriptors.flatten() {
            let Ok(target) = fs::read_link(descriptor.path()) else {
                continue;
            };
            let target = target.to_string_lossy();
            let socket = target.strip_prefix("socket:[").and_then(|rest| rest.strip_suffix(']'));
            if socket.is_some_and(|inode| inodes.iter().any(|listening| listening == inode)) {
                return Listener::Theirs;
            }
        }
    }
    Listener::Other
}

/// The inodes of the sockets that listen on `port`, from a table as in proc_net(5).
fn listening(table: &str, port: u16) -> Vec<String> {
    const LISTEN: &str = "0A";
    let suffix = format!(":{port:04X}");
    table
        .lines()
        .skip(1)
        .filter_map(|line| {
            let fields: Vec<&str> = line.split_ascii_whitespace().collect();
            let (address, state, inode) = (fields.get(1)?, fields.get(3)?, fields.get(9)?);
            (*state == LISTEN && address.ends_with(&suffix)).then(|| (*inode).to_owned())
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_parentheses_and_spaces_does_not_shift_the_fields() {
        let text = "7 (a) b (c) Z 1 42 43 0 -1 4 1 0 0 0 0 0 0 0 20 0 1 0 103772 0 0 1";
        let stat = parse_stat(7, text).expect("fields");
        assert_eq!((stat.group, stat.start_ticks, stat.zombie), (42, 103_772, true));
        assert_eq!(parse_stat(7, "7 (x"), None);
        assert_eq!(parse_stat(7, "7 (x) R 1"), None);
    }

    #[test]
    fn this_process_is_alive_and_listens_where_it_listens() {
        let own = std::process::id();
        let stat = stat(own).expect("this process");
        assert!(live(own, stat.start_ticks).is_some());
        assert!(live(own, stat.start_ticks + 1).is_none());
        let socket = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = socket.local_addr().unwrap().port();
        assert_eq!(listener(port, &[own]), Listener::Theirs);
        assert_eq!(listener(port, &[]), Listener::Other);
        drop(socket);
        assert_eq!(listener(port, &[own]), Listener::Unknown);
    }
}
