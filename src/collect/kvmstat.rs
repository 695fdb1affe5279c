//! KVM's own statistics.
use super::{Collect, Error, Options};
use crate::model::{Sample, Source};
/// Statistics.
pub struct KvmStat;
impl KvmStat {
    /// Starts.
    pub fn start(_: &Options) -> Result<KvmStat, Error> {
        Err(Error::NoKvm)
    }
}
impl Collect for KvmStat {
    fn sample(&mut self) -> Result<Sample, Error> {
        Err(Error::NoKvm)
    }
    fn stop_following(&mut self) -> Result<(), Error> {
        Ok(())
    }
    fn source(&self) -> Source {
        Source::KvmStat
    }
    fn note(&self) -> Option<String> {
        None
    }
}
