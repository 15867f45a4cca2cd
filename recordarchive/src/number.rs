//! Telephone numbers as the catalogue looks for them.
//!
//! Owns: which digits a number has, and the integer keys under which its end and its beginning are found. A
//! key is looked up by equality, so an index of (key, call) has its hits in the order of time, and "the
//! newest 50 that end in 4711" reads 50 entries, however many there are. [`ends`] and [`begins`] say which
//! keys a search has to look up.

/// Digits that are kept of a number.
const MAX_DIGITS: usize = 32;
/// The fewest digits that are taken for a number behind an area code.
const MIN_NATIONAL_DIGITS: usize = 6;

/// A number's digits; a leading `00` is a `+`, and a leading 0 the country if that is known.
pub(crate) fn digits(raw: &str, country_code: Option<&str>) -> String {
    let is_international = raw.trim_start().starts_with('+');
    let found: String = raw.chars().filter(char::is_ascii_digit).take(MAX_DIGITS).collect();
    if is_international {
        return found;
    }
    match (found.strip_prefix("00"), found.strip_prefix('0'), country_code) {
        (Some(rest), _, _) if rest.len() >= MIN_NATIONAL_DIGITS => rest.to_owned(),
        (_, Some(rest), Some(code)) if rest.len() >= MIN_NATIONAL_DIGITS - 1 => format!("{code}{rest}"),
        _ => found,
    }
}

/// Whether a text is the extension of an account: digits alone.
pub(crate) fn is_extension(text: &str) -> bool {
    (1..=MAX_DIGITS).contains(&text.len()) && text.bytes().all(|octet| octet.is_ascii_digit())
}

/// The masked form of a number, for users who may not see all of it.
pub(crate) fn masked(number: &str) -> String {
    let count = number.chars().count();
    if count <= 4 {
        return number.to_owned();
    }
    let (head, tail) = if count > 7 { (3, 2) } else { (0, 2) };
    let chars: Vec<char> = number.chars().collect();
    let hidden = "•".repeat(count - head - tail);
    let end: String = chars[count - tail..].iter().collect();
    chars[..head].iter().collect::<String>() + &hidden + &end
}

/// The keys of a number in the catalogue. A part that another key finds, too, has no key of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Keys {
    /// The last four digits, or all of fewer.
    pub(crate) tail4: i64,
    /// The last seven, of a number with as many.
    pub(crate) tail7: Option<i64>,
    /// The first four, of a number with as many. A search for a complete number uses the keys of its end.
    pub(crate) head4: Option<i64>,
    /// The first six.
    pub(crate) head6: Option<i64>,
    /// The first nine.
    pub(crate) head9: Option<i64>,
}

impl Keys {
    /// Those of a number that has any digits.
    pub(crate) fn of(digits: &str) -> Option<Self> {
        let has = |count: usize| digits.len() >= count;
        let head = |count: usize| has(count).then(|| integer(&digits[..count]));
        let is_number = !digits.is_empty() && digits.bytes().all(|octet| octet.is_ascii_digit());
        is_number.then(|| Self {
            tail4: integer(&digits[digits.len().saturating_sub(4)..]),
            tail7: has(7).then(|| integer(&digits[digits.len() - 7..])),
            head4: head(4),
            head6: head(6),
            head9: head(9),
        })
    }
}

fn integer(digits: &str) -> i64 {
    digits.parse().unwrap_or_default()
}

/// A column of the catalogue that has keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Column {
    /// [`Keys::tail4`]
    Tail4,
    /// [`Keys::tail7`]
    Tail7,
    /// [`Keys::head4`]
    Head4,
    /// [`Keys::head6`]
    Head6,
    /// [`Keys::head9`]
    Head9,
}

/// The keys to look up for numbers that end in `digits`, three or more of them.
pub(crate) fn ends(digits: &str) -> (Column, Vec<i64>) {
    match digits.len() {
        0..=3 => (Column::Tail4, (0..10).map(|digit| digit * 1000 + integer(digits)).collect()),
        4..=6 => (Column::Tail4, vec![integer(&digits[digits.len() - 4..])]),
        count => (Column::Tail7, vec![integer(&digits[count - 7..])]),
    }
}

/// The keys to look up for numbers that begin with `digits`, three or more of them, and are longer.
pub(crate) fn begins(digits: &str) -> (Column, Vec<i64>) {
    let ten = |digits: &str| (0..10).map(|digit| integer(digits) * 10 + digit).collect();
    match digits.len() {
        0..=3 => (Column::Head4, ten(digits)),
        4 => (Column::Head4, vec![integer(digits)]),
        5 => (Column::Head6, ten(digits)),
        6..=8 => (Column::Head6, vec![integer(&digits[..6])]),
        _ => (Column::Head9, vec![integer(&digits[..9])]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_number_has_its_digits_and_its_country_where_that_is_known() {
        for (raw, without, with) in [
            ("+49 (30) 1234-567", "49301234567", "49301234567"),
            ("0049301234567", "49301234567", "49301234567"),
            ("0301234567", "0301234567", "49301234567"),
            ("201", "201", "201"),
            ("sip:anna@example.net", "", ""),
            ("000", "000", "000"),
        ] {
            assert_eq!(
                (digits(raw, None).as_str(), digits(raw, Some("49")).as_str()),
                (without, with),
                "{raw}"
            );
        }
    }

    #[test]
    fn a_masked_number_keeps_country_and_last_digits_and_an_extension_stays() {
        assert_eq!(masked("+49301234567"), "+49•••••••67");
        assert_eq!(
            (masked("201").as_str(), masked("12345").as_str(), masked("").as_str()),
            ("201", "•••45", "")
        );
    }

    proptest! {
        #[test]
        fn a_number_is_among_the_keys_of_each_of_its_ends_and_beginnings(
            number in "[0-9]{3,15}", count in 3..15usize,
        ) {
            let count = count.min(number.len());
            let keys = Keys::of(&number).unwrap();
            let of = |column| match column {
                Column::Tail4 => Some(keys.tail4),
                Column::Tail7 => keys.tail7,
                Column::Head4 => keys.head4,
                Column::Head6 => keys.head6,
                Column::Head9 => keys.head9,
            };
            let (column, wanted) = ends(&number[number.len() - count..]);
            prop_assert!(of(column).is_some_and(|key| wanted.contains(&key)), "{column:?} {wanted:?}");
            // All of it is its end.
            let (column, wanted) = begins(&number[..count]);
            let is_found = of(column).is_some_and(|key| wanted.contains(&key));
            prop_assert!((is_found || count == number.len()) && wanted.len() <= 10, "{column:?}");
        }
    }
}
