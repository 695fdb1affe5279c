//! The timeline's picture in pixels.

use super::picture::svg;
use super::{Story, Theme};
use resvg::{tiny_skia, usvg};

/// Cause for which there is no picture.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Text cannot be drawn without.
    #[error(
        "this host has no font to write the picture's text with: apt-get install fonts-dejavu-core, or write an SVG (-f svg)"
    )]
    NoFont,
    /// A fault of the program's own.
    #[error("cannot draw the picture: {0}; please report this as a bug")]
    Drawing(String),
}

/// Pixels for one of the drawing's, so that it is sharp on screens and paper.
const SCALE: f32 = 2.0;

/// Fonts that are looked for, in order; else it is whichever there is.
const FONTS: [&str; 6] = ["DejaVu Sans", "Liberation Sans", "Noto Sans", "Cantarell", "Arial", "Helvetica"];

/// The timeline as PNG, 2400 wide.
///
/// # Errors
/// If there is no font.
pub fn png(story: &Story, theme: Theme) -> Result<Vec<u8>, Error> {
    let mut options = usvg::Options::default();
    let fonts = options.fontdb_mut();
    fonts.load_system_fonts();
    let family = family(fonts)?;
    fonts.set_sans_serif_family(family.clone());
    options.font_family = family;
    let bug = |cause: &dyn std::fmt::Display| Error::Drawing(cause.to_string());
    let tree = usvg::Tree::from_str(&svg(story, theme), &options).map_err(|cause| bug(&cause))?;
    let size = tree.size().to_int_size().scale_by(SCALE).ok_or_else(|| bug(&"it has no size"))?;
    let mut pixels =
        tiny_skia::Pixmap::new(size.width(), size.height()).ok_or_else(|| bug(&"it has no size"))?;
    resvg::render(&tree, tiny_skia::Transform::from_scale(SCALE, SCALE), &mut pixels.as_mut());
    pixels.encode_png().map_err(|cause| bug(&cause))
}

/// The best known font that there is, else any.
fn family(fonts: &usvg::fontdb::Database) -> Result<String, Error> {
    let has = |name: &&str| {
        let families = &[usvg::fontdb::Family::Name(name)];
        fonts.query(&usvg::fontdb::Query { families, ..Default::default() }).is_some()
    };
    let known = FONTS.into_iter().find(has).map(str::to_owned);
    let any = || fonts.faces().find_map(|face| face.families.first()).map(|(name, _)| name.clone());
    known.or_else(any).ok_or(Error::NoFont)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_a_font_it_says_which_package_has_one() {
        let error = family(&usvg::fontdb::Database::new()).unwrap_err().to_string();
        assert!(error.contains("apt-get install fonts-dejavu-core"), "{error}");
    }
}
