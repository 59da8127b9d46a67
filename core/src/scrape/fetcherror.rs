//! Why a body could not be had, be it for the network, TLS, a proxy, credentials or the body itself: what all that takes
//! part in fetching one says.

#[derive(Debug, thiserror::Error)]
#[error("{text}")]
pub struct FetchError {
    pub text: String,
    /// Nobody listens there (any more).
    pub refused: bool,
    /// The body was longer than it may be.
    pub past_limit: bool,
}

impl FetchError {
    pub fn new(text: impl Into<String>) -> FetchError {
        FetchError { text: text.into(), refused: false, past_limit: false }
    }
}
