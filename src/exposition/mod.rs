//! Floor 4: the server for those who watch it: Prometheus's text, a liveness answer and a status page.
//!
//! All of it is made of INFO's fields, so that a number has one meaning and stands in one place: what
//! INFO says today, a scrape says under the names that Prometheus's users know. A field that INFO gains
//! becomes a metric by a line in [`prometheus`].

pub mod history;
pub mod prometheus;
pub mod pulse;

use crate::base::clock::Now;
use crate::command::info::{self, field::Field};
use crate::instance::Instance;
use crate::metrics::commandlog::Kind;
use crate::session::Env;

/// The page that shows the metrics as charts: it asks for the [`history`] once, for [`metrics`] from
/// then on, and draws them, all by itself.
pub const PAGE: &str = include_str!("page.html");

/// What Prometheus's text is served as.
pub const METRICS_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// The metrics as Prometheus reads them. Reads what the shards have published, and stops none.
pub fn metrics(instance: &Instance, now: Now) -> String {
    let config = instance.config();
    prometheus::render(&fields(&Env { config: &config, instance, now }))
}

/// INFO's fields, and the one that monitoring tools ask for with SLOWLOG LEN.
fn fields(env: &Env) -> Vec<Field> {
    let mut fields = info::fields(env);
    fields.push(Field::new("slowlog_length", env.instance.metrics.commandlog.len(Kind::Slow)));
    fields
}
