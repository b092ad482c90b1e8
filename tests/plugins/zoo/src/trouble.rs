//! How something goes wrong: by a panic, by a thread that is blocked for ever, by a future that never ends.

use std::time::Duration;

/// What happens in the method that the option `at` names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Trouble {
    /// It panics.
    Panics,
    /// It holds its thread for ever.
    Blocks,
    /// It gives its thread back and never ends. What is not async blocks instead.
    Pends,
}

impl Trouble {
    /// Gets into trouble, in a method that is not async.
    pub(crate) fn strike(self, method: &str) {
        match self {
            Self::Panics => panic!("the zoo panics in {method}"),
            Self::Blocks | Self::Pends => loop {
                std::thread::sleep(Duration::from_secs(3600));
            },
        }
    }

    /// Gets into trouble, in a method that is async.
    pub(crate) async fn strike_async(self, method: &str) {
        match self {
            // A panic after the future has waited comes on another way than one at its beginning.
            Self::Panics => {
                tokio::time::sleep(Duration::from_millis(1)).await;
                self.strike(method);
            }
            Self::Blocks => self.strike(method),
            Self::Pends => std::future::pending().await,
        }
    }
}
