use crate::{device::EnvironmentId, job::Caller};
use std::{sync::Arc, time::Duration};
#[derive(Debug, Clone, Default)]
pub(super) struct Calls;
impl Calls {
    pub(super) fn admit(&self, _: &Caller, _: Option<f64>) -> Result<(), Duration> {
        Ok(())
    }
}
#[derive(Debug, Clone, Default)]
pub(super) struct Streams;
pub(super) struct StreamPermit;
impl Streams {
    pub(super) fn open(&self, _: &Caller, _: Option<u32>) -> Option<StreamPermit> {
        Some(StreamPermit)
    }
}
#[derive(Debug, Clone)]
pub(super) struct Denial {
    pub(super) who: String,
    pub(super) method: &'static str,
    pub(super) reason: &'static str,
    pub(super) environment: Option<EnvironmentId>,
    pub(super) policy: Arc<str>,
    pub(super) trace_id: Option<String>,
}
#[derive(Debug, Clone, Default)]
pub(super) struct Denials;
impl Denials {
    pub(super) fn tell(&self, d: Denial) {
        drop((d.who, d.method, d.reason, d.environment, d.policy, d.trace_id));
    }
}
#[derive(Debug, Clone, Copy)]
pub(super) enum Contacts {
    Shown,
    Masked,
}
