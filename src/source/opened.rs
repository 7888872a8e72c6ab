//! A value that is opened on first use.

use std::sync::OnceLock;

use crate::error::BundleError;
use crate::locks::Mutex;

/// Something opened once. Who comes first opens it, the others wait. A fault of the bundle stays; where this machine was at
/// fault, whoever comes next tries again.
#[derive(Debug)]
pub(crate) struct OpenedOnce<T> {
    opened: OnceLock<T>,
    failed: Mutex<Option<BundleError>>,
}

impl<T> Default for OpenedOnce<T> {
    fn default() -> Self {
        Self { opened: OnceLock::new(), failed: Mutex::default() }
    }
}

impl<T> OpenedOnce<T> {
    /// What was opened, if it was.
    pub(crate) fn get(&self) -> Option<&T> {
        self.opened.get()
    }

    /// What was opened, or what `open` opens.
    pub(crate) fn get_or_open(
        &self,
        open: impl FnOnce() -> Result<T, BundleError>,
    ) -> Result<&T, BundleError> {
        if let Some(opened) = self.opened.get() {
            return Ok(opened);
        }
        let mut failed = self.failed.lock();
        if let Some(opened) = self.opened.get() {
            return Ok(opened);
        }
        if let Some(error) = &*failed {
            return Err(error.clone());
        }
        match open() {
            Ok(opened) => Ok(self.opened.get_or_init(|| opened)),
            Err(error) => {
                if !error.fault().is_of_machine() {
                    *failed = Some(error.clone());
                }
                Err(error)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Fault;

    #[test]
    fn only_a_fault_of_the_bundle_stays() {
        let once = OpenedOnce::default();
        let failed = |fault| move || Err::<u32, _>(BundleError::new(fault, "x"));
        assert_eq!(once.get_or_open(failed(Fault::Io)).unwrap_err().fault(), Fault::Io);
        assert_eq!(once.get_or_open(failed(Fault::NoSpace)).unwrap_err().fault(), Fault::NoSpace);
        assert_eq!((once.get(), once.get_or_open(|| Ok(1)).unwrap()), (None, &1));
        assert_eq!(once.get_or_open(|| Ok(2)).unwrap(), &1);

        let once = OpenedOnce::default();
        for _ in 0..2 {
            let error = once.get_or_open(failed(Fault::Truncated)).unwrap_err();
            assert_eq!(error.fault(), Fault::Truncated);
        }
        assert_eq!(once.get_or_open(|| Ok(1)).unwrap_err().fault(), Fault::Truncated);
    }
}
