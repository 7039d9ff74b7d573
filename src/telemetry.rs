//! x
pub fn trace_parent_of_current_span() -> Option<String> {
    None
}
