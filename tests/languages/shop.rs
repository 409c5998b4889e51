use std::fmt;

const LIMIT: usize = 3;

/// What is bought.
#[derive(Debug)]
pub struct Cart<T> {
    items: Vec<T>,
}

impl<T> Cart<T> {
    /// In cents.
    #[inline]
    pub fn total(&self) -> usize {
        self.items.len()
    }
}

impl<'a, T> fmt::Display for &'a Cart<T> {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        Ok(())
    }
}

pub trait Payable {
    fn pay(&self);
}

mod inner {
    pub fn open() {}
}

macro_rules! price {
    () => {};
}
