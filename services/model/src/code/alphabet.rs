//! Bytes as text that a person can type: Crockford's base32 (no I, L, O, U; either case; what looks alike reads alike) in
//! groups of five, whose fifth character checks the four before it and the group's place.

use base32::Alphabet;

const GROUP: usize = 4;
const ALPHABET: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";

/// Why a typed code can't be right.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// A character that no code has.
    #[error("{0:?} does not occur in codes")]
    Character(char),
    /// A group whose check does not come out.
    #[error("group {0} is mistyped")]
    Group(usize),
    /// It ends within a group, or is empty.
    #[error("the code is not complete")]
    Incomplete,
}

impl Error {
    /// Whether the same text may do later.
    pub fn retryable(&self) -> bool {
        match self {
            Self::Character(_) | Self::Group(_) | Self::Incomplete => false,
        }
    }
}

/// The text of some bytes: `XXXXX-XXXXX-...`.
pub fn encode(bytes: &[u8]) -> String {
    let text = base32::encode(Alphabet::Crockford, bytes);
    let values: Vec<u8> = text.chars().filter_map(value).collect();
    let groups = values.chunks(GROUP).zip(1..).map(|(group, place)| {
        let all = group.iter().copied().chain([check(group, place)]);
        all.map(character).collect::<String>()
    });
    groups.collect::<Vec<_>>().join("-")
}

/// The bytes of a typed text; hyphens and blanks between the characters don't count.
///
/// # Errors
/// It is mistyped; the error tells where.
pub fn decode(text: &str) -> Result<Vec<u8>, Error> {
    let typed = text.chars().filter(|c| !c.is_whitespace() && *c != '-');
    let values: Vec<u8> =
        typed.map(|c| value(c).ok_or(Error::Character(c))).collect::<Result<_, _>>()?;
    let mut digits = String::new();
    for (group, place) in values.chunks(GROUP + 1).zip(1..) {
        match group.split_last() {
            Some((_, [])) | None => return Err(Error::Incomplete),
            Some((last, data)) if *last != check(data, place) => {
                let whole = data.len() == GROUP;
                return Err(if whole { Error::Group(place) } else { Error::Incomplete });
            }
            Some((_, data)) => digits.extend(data.iter().copied().map(character)),
        }
    }
    if digits.is_empty() {
        return Err(Error::Incomplete);
    }
    let bytes = base32::decode(Alphabet::Crockford, &digits).ok_or(Error::Incomplete)?;
    // Bits that are left over are zero in a whole code; in one that was cut they hardly are.
    if base32::encode(Alphabet::Crockford, &bytes) == digits {
        Ok(bytes)
    } else {
        Err(Error::Incomplete)
    }
}

fn character(value: u8) -> char {
    ALPHABET.get(usize::from(value)).copied().map_or('0', char::from)
}

fn value(c: char) -> Option<u8> {
    let upper = match c.to_ascii_uppercase() {
        'O' => '0',
        'I' | 'L' => '1',
        other => other,
    };
    let place = ALPHABET.iter().position(|known| char::from(*known) == upper)?;
    u8::try_from(place).ok()
}

/// A sum over GF(32) with a weight of its own for each character: every single wrong character and every two that changed
/// places are found. The group's place takes part, so that groups can't be swapped or left out.
fn check(data: &[u8], place: usize) -> u8 {
    let place = u8::try_from(place % 32).unwrap_or_default();
    // Horner's rule: the weights are the powers of the field's generator.
    data.iter().rev().fold(0, |sum, value| double(sum ^ value)) ^ place
}

/// Times x in GF(32), whose polynomial is x^5 + x^2 + 1.
fn double(value: u8) -> u8 {
    if value & 0b1_0000 == 0 { value << 1 } else { (value << 1) ^ 0b10_0101 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn bytes_come_back(bytes in proptest::collection::vec(any::<u8>(), 1..80)) {
            prop_assert_eq!(decode(&encode(&bytes)).unwrap(), bytes);
        }

        #[test]
        fn typing_freely_changes_nothing(bytes in proptest::collection::vec(any::<u8>(), 1..40)) {
            let typed = encode(&bytes).to_lowercase().replace('-', "  ").replace('0', "o").replace('1', "l");
            prop_assert_eq!(decode(&typed).unwrap(), bytes);
        }
    }

    const BYTES: [u8; 10] = [1, 35, 69, 103, 137, 171, 205, 239, 17, 250];

    #[test]
    fn a_wrong_character_is_found_and_its_group_named() {
        let text = encode(&BYTES);
        for (place, right) in text.char_indices().filter(|(_, c)| *c != '-') {
            for wrong in ALPHABET.iter().map(|c| char::from(*c)).filter(|wrong| *wrong != right) {
                let typed = format!("{}{wrong}{}", &text[..place], &text[place + 1..]);
                assert_eq!(decode(&typed), Err(Error::Group(place / 6 + 1)), "{typed}");
            }
        }
    }

    #[test]
    fn neighbours_and_groups_that_changed_places_are_found() {
        let text: Vec<char> = encode(&BYTES).chars().filter(|c| *c != '-').collect();
        for place in 0..text.len() - 1 {
            let mut typed = text.clone();
            typed.swap(place, place + 1);
            if typed != text {
                let decoded = decode(&typed.iter().collect::<String>());
                assert!(matches!(decoded, Err(Error::Group(_))), "{typed:?}");
            }
        }
        let text = encode(&BYTES);
        let mut groups: Vec<_> = text.split('-').collect();
        groups.swap(0, 2);
        assert_eq!(decode(&groups.join("-")), Err(Error::Group(1)));
        assert_eq!(decode(&groups[1..].join("-")), Err(Error::Group(1)));
    }

    #[test]
    fn what_is_no_code_says_why() {
        assert_eq!(decode("ABCU"), Err(Error::Character('U')));
        assert_eq!(decode(" - "), Err(Error::Incomplete));
        let text = encode(&BYTES);
        assert_eq!(decode(&text[..text.len() - 1]), Err(Error::Incomplete));
    }
}
