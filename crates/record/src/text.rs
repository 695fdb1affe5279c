//! A list of words as one text: a JSON array of strings, which SQLite and DuckDB take apart.

/// Returns the words of a text that NUL separates, as a JSON array.
pub fn of_arguments(arguments: &str) -> String {
    let words: Vec<&str> = if arguments.is_empty() { Vec::new() } else { arguments.split('\0').collect() };
    of_words(&words)
}

/// Returns words as a JSON array.
pub fn of_words<T: serde::Serialize>(words: &[T]) -> String {
    serde_json::to_string(words).unwrap_or_default()
}

/// Returns the words of a JSON array of strings; `None` if it is none.
pub fn words(text: &str) -> Option<Vec<String>> {
    serde_json::from_str(text).ok()
}
