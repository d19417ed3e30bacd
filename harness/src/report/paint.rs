//! Colours by meaning. Whoever prints strips them where they are not wanted; no meaning is told by colour alone.

use anstyle::{AnsiColor, Style};

/// What a piece of text means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Paint {
    /// As it should be.
    Good,
    /// Must not be.
    Bad,
    /// Should not be.
    Warning,
    /// Worth knowing.
    Notice,
    /// Less important than the rest.
    Dim,
    /// A heading.
    Strong,
}

impl Paint {
    /// The text in its colour.
    pub fn on(self, text: &str) -> String {
        let style = self.style();
        format!("{style}{text}{style:#}")
    }

    fn style(self) -> Style {
        match self {
            Self::Good => AnsiColor::Green.on_default(),
            Self::Bad => AnsiColor::Red.on_default().bold(),
            Self::Warning => AnsiColor::Yellow.on_default(),
            Self::Notice => AnsiColor::Cyan.on_default(),
            Self::Dim => Style::new().dimmed(),
            Self::Strong => Style::new().bold(),
        }
    }
}
