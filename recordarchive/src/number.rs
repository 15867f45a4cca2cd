//! Telephone numbers as the catalogue looks for them.
//!
//! Owns: which digits a number has, and the integer keys under which its end and its beginning are found. A key is looked
//! up by equality, so an index of (key, call) has its hits in the order of time, and "the newest 50 that end in 4711"
//! reads 50 entries, however many there are. [`ends`] and [`begins`] say which keys a search has to look up.

/// Digits that are kept of a number.
const MAX_DIGITS: usize = 32;
/// Digits in front that are a key.
const HEAD_DIGITS: usize = 6;

/// A number's digits; a leading `00` is a `+`, and a leading 0 the country if that is known.
pub(crate) fn digits(raw: &str, country_code: Option<&str>) -> String {
    let is_international = raw.trim_start().starts_with('+');
    let found: String = raw.chars().filter(char::is_ascii_digit).take(MAX_DIGITS).collect();
    if is_international {
        return found;
    }
    match (found.strip_prefix("00"), found.strip_prefix('0'), country_code) {
        (Some(rest), _, _) if rest.len() >= HEAD_DIGITS => rest.to_owned(),
        (_, Some(rest), Some(code)) if rest.len() >= HEAD_DIGITS - 1 => format!("{code}{rest}"),
        _ => found,
    }
}

/// A number as those see it who may not see all of it.
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

/// The keys of a number in the catalogue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Keys {
    /// The last four digits, or all of fewer.
    pub(crate) tail4: i64,
    /// The last seven.
    pub(crate) tail7: i64,
    /// The first three, filled up with zeros.
    pub(crate) head3: i64,
    /// The first six.
    pub(crate) head6: i64,
}

impl Keys {
    /// Those of a number that has any digits.
    pub(crate) fn of(digits: &str) -> Option<Self> {
        let tail = |count: usize| integer(&digits[digits.len().saturating_sub(count)..]);
        let head = |count: usize| integer(&format!("{digits:0<count$}")[..count]);
        let is_number = !digits.is_empty() && digits.bytes().all(|octet| octet.is_ascii_digit());
        is_number.then(|| Self { tail4: tail(4), tail7: tail(7), head3: head(3), head6: head(HEAD_DIGITS) })
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
    /// [`Keys::head3`]
    Head3,
    /// [`Keys::head6`]
    Head6,
}

/// The keys to look up for numbers that end in `digits`, three or more of them.
pub(crate) fn ends(digits: &str) -> (Column, Vec<i64>) {
    match digits.len() {
        0..=3 => (Column::Tail4, (0..10).map(|digit| digit * 1000 + integer(digits)).collect()),
        4..=6 => (Column::Tail4, vec![integer(&digits[digits.len() - 4..])]),
        count => (Column::Tail7, vec![integer(&digits[count - 7..])]),
    }
}

/// The keys to look up for numbers that begin with `digits`, three or more of them.
pub(crate) fn begins(digits: &str) -> (Column, Vec<i64>) {
    if digits.len() <= 3 {
        return (Column::Head3, vec![integer(digits)]);
    }
    let rest = HEAD_DIGITS.saturating_sub(digits.len());
    let first = integer(&format!("{digits:0<HEAD_DIGITS$}")[..HEAD_DIGITS]);
    (Column::Head6, (0..10_i64.pow(u32::try_from(rest).unwrap_or(0))).map(|n| first + n).collect())
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
                Column::Tail4 => keys.tail4,
                Column::Tail7 => keys.tail7,
                Column::Head3 => keys.head3,
                Column::Head6 => keys.head6,
            };
            let (column, wanted) = ends(&number[number.len() - count..]);
            prop_assert!(wanted.contains(&of(column)), "{column:?} {wanted:?}");
            let (column, wanted) = begins(&number[..count]);
            prop_assert!(wanted.contains(&of(column)) && wanted.len() <= 100, "{column:?}");
        }
    }
}
