//! Programs of a few views, as text.
