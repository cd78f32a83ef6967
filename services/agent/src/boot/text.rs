//! Texts that strangers wrote, made harmless. Nothing else may put a stranger's text into a script, a log or an event.

/// The characters that are printable, trimmed, at most `limit` of them; the others become `?`.
pub fn clean(text: &str, limit: usize) -> String {
    let mut clean: String =
        text.trim().chars().take(limit).map(|c| if is_plain(c) { c } else { '?' }).collect();
    clean.truncate(clean.trim_end().len());
    clean
}

// Control characters drive terminals; the bidirectional and invisible ones make a text look like another (Unicode TR 36).
fn is_plain(c: char) -> bool {
    !c.is_control()
        && !matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_and_invisible_characters_never_pass() {
        assert_eq!(clean(" a\x1b[2J\u{202e}b\r\n", 64), "a?[2J?b");
        assert_eq!(clean("Dell Größe", 64), "Dell Größe");
    }

    #[test]
    fn a_text_is_cut_at_its_limit_in_characters() {
        assert_eq!(clean(&"ä".repeat(100), 3), "äää");
    }
}
