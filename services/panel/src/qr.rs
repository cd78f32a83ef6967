//! QR codes as SVG, drawn by the server: a page needs no script for them.

use qrcode::{EcLevel, QrCode, render::svg, types::QrError};

/// Why a QR code can't be drawn.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Longer than the largest code holds (ISO/IEC 18004: 2331 bytes at this level).
    #[error("the text does not fit into a QR code")]
    Full(#[source] QrError),
}

impl Error {
    /// Whether the same may succeed later.
    pub fn retryable(&self) -> bool {
        match self {
            Self::Full(_) => false,
        }
    }
}

/// The text as an `<svg>` element, black on white with its quiet zone, in any theme: cameras need the contrast.
///
/// # Errors
/// The text is too long.
pub fn svg(text: &str) -> Result<String, Error> {
    let code = QrCode::with_error_correction_level(text, EcLevel::M).map_err(Error::Full)?;
    let image = code.render::<svg::Color<'_>>().min_dimensions(240, 240).quiet_zone(true).build();
    // The declaration of a document of its own has no place within a page.
    Ok(image.find("<svg").and_then(|start| image.get(start..)).unwrap_or(&image).to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_becomes_an_element_that_stands_in_a_page() {
        let drawn = svg("otpauth://totp/x").unwrap();
        assert!(drawn.starts_with("<svg") && drawn.trim_end().ends_with("</svg>"), "{drawn}");
        assert!(
            !drawn.contains("<script") && !drawn.contains("style="),
            "a strict CSP forbids both"
        );
    }

    #[test]
    fn a_text_that_does_not_fit_is_refused() {
        assert!(matches!(svg(&"x".repeat(3000)), Err(Error::Full(_))));
    }
}
