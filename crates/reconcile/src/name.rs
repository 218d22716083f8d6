//! Deterministic names for children: the same plan, computed twice, names the same objects.
//!
//! All results are at most 63 characters, so that they serve as DNS labels and label values too.

use std::collections::HashSet;

/// Kubernetes' alphabet for generated names: no vowels and no look-alikes, so no words.
const ALPHABET: &[u8; 27] = b"bcdfghjklmnpqrstvwxz2456789";
/// Length of [`digest`]s: 27^8 is about 2.8e11, so 10,000 siblings collide with a probability of about 2e-4, and a collision is seen as a
/// taken name.
const DIGEST: usize = 8;
/// A DNS label (RFC 1123).
const LABEL: usize = 63;

/// Eight letters and digits that depend on all of the parts and their order.
pub fn digest(parts: &[&str]) -> String {
    // FNV-1a over length-prefixed parts (so that ["ab","c"] and ["a","bc"] differ), with the avalanche of MurmurHash3 at the end.
    let mut hash: u64 = 0xcbf2_9ce4_8422_2325;
    let mut eat = |byte: u8| hash = (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
    for part in parts {
        (part.len() as u64)
            .to_le_bytes()
            .into_iter()
            .chain(part.bytes())
            .for_each(&mut eat);
    }
    hash = (hash ^ (hash >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
    hash = (hash ^ (hash >> 33)).wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    hash ^= hash >> 33;
    (0..DIGEST)
        .map(|_| {
            let letter = ALPHABET[(hash % 27) as usize] as char;
            hash /= 27;
            letter
        })
        .collect()
}

/// `prefix-digest(parts)`, the prefix cut to fit.
pub fn hashed(prefix: &str, parts: &[&str]) -> String {
    join(prefix, &digest(parts))
}

/// `prefix-suffix`, the prefix cut to fit.
pub fn join(prefix: &str, suffix: &str) -> String {
    let room = LABEL.saturating_sub(suffix.len() + 1);
    let cut = prefix
        .char_indices()
        .map(|(at, c)| at + c.len_utf8())
        .take_while(|end| *end <= room)
        .last()
        .unwrap_or(0);
    let prefix = prefix[..cut].trim_end_matches(['-', '.']);
    if prefix.is_empty() {
        suffix.to_owned()
    } else {
        format!("{prefix}-{suffix}")
    }
}

/// `count` names of the form `prefix-digest` that are not taken, the same ones for the same `prefix`, `seed` (the owner's uid, say) and
/// `taken`. Give terminating siblings as taken: a replacement must not wait for a name.
pub fn unused(prefix: &str, seed: &str, taken: &HashSet<&str>, count: usize) -> Vec<String> {
    // Ends: among taken.len() + count + (collisions) distinct ordinals, enough names are free.
    (0_u64..)
        .map(|ordinal| hashed(prefix, &[seed, &ordinal.to_string()]))
        .filter(|name| !taken.contains(name.as_str()))
        .take(count)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_repeat_and_avoid_what_is_taken() {
        let none = HashSet::new();
        let first = unused("chat", "uid-1", &none, 3);
        assert_eq!(first, unused("chat", "uid-1", &none, 3));
        assert_ne!(first, unused("chat", "uid-2", &none, 3));
        let taken: HashSet<&str> = [first[1].as_str()].into();
        let next = unused("chat", "uid-1", &taken, 2);
        assert_eq!(next, [first[0].clone(), first[2].clone()]);
    }

    #[test]
    fn names_fit_in_a_label() {
        let long = "a".repeat(200);
        let name = hashed(&long, &["x"]);
        assert_eq!(name.len(), 63);
        assert_eq!(join("", "x"), "x");
        assert_eq!(join("ends-with-dash-", "x"), "ends-with-dash-x");
        assert_eq!(join(&"ü".repeat(60), "x").len(), 30 * 2 + 2);
    }

    #[test]
    fn digests_see_boundaries() {
        assert_ne!(digest(&["ab", "c"]), digest(&["a", "bc"]));
        assert_ne!(digest(&["a"]), digest(&["a", ""]));
    }
}
