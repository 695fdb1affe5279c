//! A list of words as one text: a JSON array of strings, which SQLite and DuckDB take apart.

/// Of words that NUL separates.
pub fn of_arguments(arguments: &str) -> String {
    let words: Vec<&str> = if arguments.is_empty() { Vec::new() } else { arguments.split('\0').collect() };
    of_words(&words)
}

/// Of words.
pub fn of_words<T: serde::Serialize>(words: &[T]) -> String {
    serde_json::to_string(words).unwrap_or_default()
}

/// The words again; `None` if it is no such list.
pub fn words(text: &str) -> Option<Vec<String>> {
    serde_json::from_str(text).ok()
}
