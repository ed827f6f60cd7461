//! Characters: which ones make up words, which scripts are written without spaces, and the two
//! forms in which a word is indexed.
//!
//! - The *kept* form: compatibility-composed (full-width and half-width forms unified) and in
//!   lower case. Quoted phrases compare it, so that an accent in quotes counts.
//! - The *folded* form: the kept form without accents, vowel points and the like. Everything else
//!   compares it.
//!
//! Not here: positions, tokens, queries. Every function depends on its argument alone, so that a
//! part cut out of a text is folded as it is inside the text.

use smallvec::SmallVec;
use unicode_normalization::UnicodeNormalization;
use unicode_normalization::char::{decompose_canonical, is_combining_mark};

/// What a character does in a text.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Class {
    /// Stands between words.
    Separator,
    /// Part of a word of a script that puts spaces between words.
    Letter,
    /// Part of a script without spaces (or with spaces at other places than word ends), searched
    /// by any substring. Emoji count here.
    Dense,
    /// A mark or an invisible character: belongs to what stands before it, begins nothing.
    Joined,
}

/// Blocks of scripts that are searched by substring, in ascending order.
const DENSE: &[(char, char)] = &[
    ('\u{e00}', '\u{fff}'),     // Thai, Lao, Tibetan
    ('\u{1000}', '\u{109f}'),   // Myanmar
    ('\u{1100}', '\u{11ff}'),   // Hangul Jamo
    ('\u{1780}', '\u{17ff}'),   // Khmer
    ('\u{1950}', '\u{19ff}'),   // Tai Le, New Tai Lue, Khmer symbols
    ('\u{1a20}', '\u{1aaf}'),   // Tai Tham
    ('\u{1b00}', '\u{1b7f}'),   // Balinese
    ('\u{2600}', '\u{27bf}'),   // symbols shown as emoji
    ('\u{2e80}', '\u{2fdf}'),   // Han radicals
    ('\u{3005}', '\u{3007}'),   // Han iteration mark, zero
    ('\u{3021}', '\u{303c}'),   // Hangzhou numerals, kana repeat marks
    ('\u{3040}', '\u{a4cf}'),   // kana, Bopomofo, compatibility Jamo, enclosed, Han, Yi
    ('\u{a960}', '\u{a97f}'),   // Hangul Jamo extended
    ('\u{a980}', '\u{a9ff}'),   // Javanese, Myanmar extended
    ('\u{aa60}', '\u{aadf}'),   // Myanmar extended, Tai Viet
    ('\u{ac00}', '\u{d7ff}'),   // Hangul
    ('\u{f900}', '\u{faff}'),   // Han compatibility
    ('\u{ff66}', '\u{ffdc}'),   // half-width kana and Jamo
    ('\u{16fe0}', '\u{18dff}'), // Tangut, Khitan
    ('\u{1aff0}', '\u{1b2ff}'), // kana extended, Nushu
    ('\u{1f000}', '\u{1faff}'), // emoji
    ('\u{20000}', '\u{3ffff}'), // Han extensions
];

/// Blocks of `DENSE` whose symbols count although Unicode calls them neither letters nor digits:
/// emoji, and the enclosed and squared forms of company names and units.
const SYMBOLS: &[(char, char)] =
    &[('\u{2600}', '\u{27bf}'), ('\u{3200}', '\u{33ff}'), ('\u{1f000}', '\u{1faff}')];

/// Marks that folding removes: accents, Hebrew points, Arabic vowels and hamzas, nuktas.
const STRIPPED: &[(char, char)] = &[
    ('\u{300}', '\u{36f}'),
    ('\u{483}', '\u{487}'),
    ('\u{591}', '\u{5bd}'),
    ('\u{5bf}', '\u{5bf}'),
    ('\u{5c1}', '\u{5c2}'),
    ('\u{5c4}', '\u{5c5}'),
    ('\u{5c7}', '\u{5c7}'),
    ('\u{610}', '\u{61a}'),
    ('\u{640}', '\u{640}'), // tatweel, a stretched line
    ('\u{64b}', '\u{65f}'),
    ('\u{670}', '\u{670}'),
    ('\u{6d6}', '\u{6dc}'),
    ('\u{6df}', '\u{6e8}'),
    ('\u{6ea}', '\u{6ed}'),
    ('\u{711}', '\u{711}'),
    ('\u{730}', '\u{74a}'),
    ('\u{93c}', '\u{93c}'),
    ('\u{9bc}', '\u{9bc}'),
    ('\u{a3c}', '\u{a3c}'),
    ('\u{abc}', '\u{abc}'),
    ('\u{b3c}', '\u{b3c}'),
    ('\u{1ab0}', '\u{1aff}'),
    ('\u{1dc0}', '\u{1dff}'),
    ('\u{20d0}', '\u{20ff}'),
    ('\u{fe20}', '\u{fe2f}'),
];

/// Characters without a shape: soft hyphens, joiners, direction marks, variation selectors.
const INVISIBLE: &[(char, char)] = &[
    ('\u{ad}', '\u{ad}'),
    ('\u{34f}', '\u{34f}'),
    ('\u{61c}', '\u{61c}'),
    ('\u{180b}', '\u{180f}'),
    ('\u{200b}', '\u{200f}'),
    ('\u{202a}', '\u{202e}'),
    ('\u{2060}', '\u{2069}'),
    ('\u{fe00}', '\u{fe0f}'),
    ('\u{feff}', '\u{feff}'),
    ('\u{e0100}', '\u{e01ef}'),
];

fn within(c: char, ranges: &[(char, char)]) -> bool {
    let after = ranges.partition_point(|(first, _)| *first <= c);
    after.checked_sub(1).and_then(|at| ranges.get(at)).is_some_and(|(_, last)| c <= *last)
}

/// The class of a character.
pub fn class(c: char) -> Class {
    if c.is_ascii() {
        return if c.is_ascii_alphanumeric() { Class::Letter } else { Class::Separator };
    }
    if within(c, INVISIBLE) {
        return Class::Joined;
    }
    let mark = is_combining_mark(c);
    if within(c, DENSE) && (mark || c.is_alphanumeric() || within(c, SYMBOLS)) {
        Class::Dense
    } else if mark {
        Class::Joined
    } else if c.is_alphanumeric() {
        Class::Letter
    } else {
        Class::Separator
    }
}

/// Whether a character can only be normalised together with the one before it: marks, the later
/// letters of a Hangul syllable, half-width voicing marks.
pub fn continues(c: char) -> bool {
    !c.is_ascii()
        && (matches!(c, '\u{1160}'..='\u{11ff}' | '\u{d7b0}'..='\u{d7ff}' | '\u{ff9e}' | '\u{ff9f}')
            || is_combining_mark(c)
            || within(c, INVISIBLE))
}

/// Whether lines of the script are broken anywhere, so that a line break is no word break.
pub fn breaks_anywhere(c: char) -> bool {
    let hangul = matches!(c, '\u{1100}'..='\u{11ff}' | '\u{3130}'..='\u{318f}'
        | '\u{a960}'..='\u{a97f}' | '\u{ac00}'..='\u{d7ff}' | '\u{ffa0}'..='\u{ffdc}');
    !hangul && within(c, DENSE) && !within(c, SYMBOLS)
}

/// Appends the kept form of a piece of text to `out`.
pub fn keep(text: &str, out: &mut String) {
    if text.is_ascii() {
        out.extend(text.chars().filter(char::is_ascii_alphanumeric).map(|c| c.to_ascii_lowercase()));
        return;
    }
    let lower = |c: char| c.to_lowercase().map(|c| if c == 'ς' { 'σ' } else { c });
    let wanted = |c: &char| class(*c) != Class::Separator && !within(*c, INVISIBLE);
    out.extend(text.nfkc().flat_map(lower).filter(wanted).nfc());
}

/// Appends the folded form of a text in kept form to `out`.
pub fn fold(kept: &str, out: &mut String) {
    for c in kept.chars() {
        fold_char(c, out);
    }
}

fn fold_char(c: char, out: &mut String) {
    // й is a letter of its own, not an accented и; and scripts without spaces have no accents.
    if c.is_ascii() || c == 'й' || within(c, DENSE) {
        out.push(c);
        return;
    }
    let mut parts = SmallVec::<[char; 4]>::new();
    decompose_canonical(c, |part| parts.push(part));
    if !parts.iter().any(|part| within(*part, STRIPPED)) {
        return push_base(c, out);
    }
    for part in parts {
        if !within(part, STRIPPED) {
            push_base(part, out);
        }
    }
}

/// Letters that are variants of others without being composed of them.
fn push_base(c: char, out: &mut String) {
    match c {
        'ß' => out.push_str("ss"),
        'æ' => out.push_str("ae"),
        'œ' => out.push_str("oe"),
        'þ' => out.push_str("th"),
        'ø' => out.push('o'),
        'đ' | 'ð' => out.push('d'),
        'ł' => out.push('l'),
        'ħ' => out.push('h'),
        'ı' => out.push('i'),
        'ŋ' => out.push('n'),
        'ة' | 'ھ' | 'ہ' => out.push('ه'),
        'ى' | 'ی' => out.push('ي'),
        'ک' => out.push('ك'),
        'ٱ' => out.push('ا'),
        '\u{660}'..='\u{669}' => push_digit(c, '\u{660}', out),
        '\u{6f0}'..='\u{6f9}' => push_digit(c, '\u{6f0}', out),
        '\u{966}'..='\u{96f}' => push_digit(c, '\u{966}', out),
        _ => out.push(c),
    }
}

fn push_digit(c: char, zero: char, out: &mut String) {
    out.extend(char::from_digit(u32::from(c).saturating_sub(u32::from(zero)), 10));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kept(text: &str) -> String {
        let mut out = String::new();
        keep(text, &mut out);
        out
    }

    fn folded(text: &str) -> String {
        let mut out = String::new();
        fold(&kept(text), &mut out);
        out
    }

    #[test]
    fn tables_are_in_order() {
        for table in [DENSE, SYMBOLS, STRIPPED, INVISIBLE] {
            assert!(table.iter().all(|(first, last)| first <= last));
            assert!(table.windows(2).all(|pair| pair[0].1 < pair[1].0));
        }
    }

    #[test]
    fn words_are_folded() {
        for (text, expected) in [
            ("Café", "cafe"),
            ("Cafe\u{301}", "cafe"),
            ("Straße", "strasse"),
            ("STRASSE", "strasse"),
            ("İSTANBUL", "istanbul"),
            ("ısparta", "isparta"),
            ("ΟΔΥΣΣΕΎΣ", "οδυσσευσ"),
            ("Οδυσσεύς", "οδυσσευσ"),
            ("Ёлка", "елка"),
            ("Чай", "чай"),
            ("Łódź", "lodz"),
            ("Ｗｉｄｅ２", "wide2"),
            ("ﬁn", "fin"),
            ("𝐁old", "bold"),
            ("שָׁלוֹם", "שלום"),
            ("مُحَمَّد", "محمد"),
            ("أحمد", "احمد"),
            ("محـــمد", "محمد"),
            ("٢٠٢٤", "2024"),
            ("हिन्दी", "हिन्दी"),
            ("co\u{ad}operate", "cooperate"),
        ] {
            assert_eq!(folded(text), expected, "{text}");
        }
        assert_eq!(kept("Cafe\u{301}"), "café");
    }

    #[test]
    fn dense_scripts_are_composed_but_keep_their_marks() {
        assert_eq!(folded("ｶﾞ"), "ガ");
        assert_eq!(folded("か\u{3099}"), "が");
        assert_eq!(folded("\u{1112}\u{1161}\u{11ab}"), "한");
        assert_eq!(folded("ที่"), "ที่");
        assert_eq!(folded("㈱"), "株");
    }

    #[test]
    fn classes() {
        for (c, expected) in [
            ('a', Class::Letter),
            ('_', Class::Separator),
            ('é', Class::Letter),
            ('я', Class::Letter),
            ('٣', Class::Letter),
            ('日', Class::Dense),
            ('ー', Class::Dense),
            ('한', Class::Dense),
            ('\u{e35}', Class::Dense),
            ('。', Class::Separator),
            ('・', Class::Separator),
            ('\u{3000}', Class::Separator),
            ('🎉', Class::Dense),
            ('\u{301}', Class::Joined),
            ('\u{94d}', Class::Joined),
            ('\u{200d}', Class::Joined),
        ] {
            assert_eq!(class(c), expected, "{c:?}");
        }
    }
}
