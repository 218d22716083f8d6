//! Static bearer tokens from a file, as Kubernetes' `--token-auth-file`: lines of `token,user,uid,"group1,group2"`.
//!
//! For the administrator's and bootstrap tokens of a server. They do not expire: prefer certificates or ServiceAccount tokens.

use std::collections::HashMap;

use jiff::Timestamp;

use super::{Authenticator, Credentials, Outcome, TokenHash, hash};
use crate::UserInfo;

/// The tokens of one file.
#[derive(Clone, Default)]
pub struct TokenFile {
    users: HashMap<TokenHash, UserInfo>,
}

/// A line that cannot be read. The message never shows the line: it holds a secret.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("token file, line {line}: {problem}")]
pub struct TokenFileError {
    /// Counted from 1.
    pub line: usize,
    /// What is wrong.
    pub problem: &'static str,
}

impl TokenFile {
    /// Reads the text of a file. Empty lines and lines that start with `#` are skipped.
    ///
    /// # Errors
    /// Fewer than three columns, an empty token or user, an unclosed quote, or a token that occurs twice.
    pub fn parse(text: &str) -> Result<Self, TokenFileError> {
        let mut users = HashMap::new();
        for (index, line) in text.lines().enumerate() {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let fail = |problem| TokenFileError {
                line: index + 1,
                problem,
            };
            let columns = columns(line).ok_or(fail("a quote is not closed"))?;
            let [token, user, uid, rest @ ..] = columns.as_slice() else {
                return Err(fail("fewer than the three columns token, user, uid"));
            };
            if token.is_empty() || user.is_empty() {
                return Err(fail("the token or the user is empty"));
            }
            let groups = rest.first().map_or("", String::as_str);
            let groups = groups.split(',').map(str::trim).filter(|group| !group.is_empty());
            let user = UserInfo {
                uid: uid.clone(),
                ..UserInfo::new(user.as_str(), groups)
            };
            if users.insert(hash(token), user).is_some() {
                return Err(fail("the token occurs twice"));
            }
        }
        Ok(Self { users })
    }

    /// Adds one token.
    #[must_use]
    pub fn with(mut self, token: &str, user: UserInfo) -> Self {
        self.users.insert(hash(token), user);
        self
    }
}

/// The columns of a line of CSV (RFC 4180, without line breaks in quotes). `None` if a quote is not closed.
fn columns(line: &str) -> Option<Vec<String>> {
    let mut columns = vec![String::new()];
    let mut quoted = false;
    let mut characters = line.chars().peekable();
    while let Some(character) = characters.next() {
        let column = columns.last_mut()?;
        match character {
            '"' if quoted && characters.peek() == Some(&'"') => {
                characters.next();
                column.push('"');
            }
            '"' => quoted = !quoted,
            ',' if !quoted => columns.push(String::new()),
            other => column.push(other),
        }
    }
    (!quoted).then_some(columns)
}

impl Authenticator for TokenFile {
    fn name(&self) -> &'static str {
        "token file"
    }

    fn authenticate(&self, credentials: &Credentials<'_>, _now: Timestamp) -> Outcome {
        let user = credentials.bearer().and_then(|token| self.users.get(&hash(token)));
        user.map_or(Outcome::NotMine, |user| Outcome::Known(user.clone()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_csv() {
        let file =
            TokenFile::parse("# admin\nt1,alice,u1,\"system:masters, devs\"\n\nt2,bob,\n\"t,3\",\"car\"\"l\",u3,ops\n")
                .expect("parse");
        let find = |token| file.users.get(&hash(token)).cloned().expect("known");
        assert_eq!(
            find("t1"),
            UserInfo {
                uid: "u1".into(),
                ..UserInfo::new("alice", ["system:masters", "devs"])
            }
        );
        assert_eq!(find("t2"), UserInfo::new("bob", [""; 0]));
        assert_eq!(find("t,3").name, "car\"l");
        for (text, line) in [
            ("a,b", 1),
            ("\n,b,c", 2),
            ("t,,c", 1),
            ("t,\"b,c", 1),
            ("t,a,1\nt,b,2", 2),
        ] {
            let error = TokenFile::parse(text).err().expect("refused");
            assert_eq!(error.line, line, "{text:?}");
        }
    }
}
