//! What the gateway counts. Routes are labelled by their pattern, so the
//! number of series is bounded by the table and the error codes.

use std::time::Duration;

use actix_web::http::{Method, StatusCode};
use prometheus::{
    Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, Opts, Registry,
};

use super::routes::{ROUTES, UNMATCHED};

/// Counters of the gateway.
pub(crate) struct Metrics {
    requests: IntCounterVec,
    /// By route: the series of a 200, found once.
    successes: Vec<IntCounter>,
    /// By route, and last the one of unmatched requests.
    seconds: Vec<Histogram>,
    /// Requests being answered now.
    pub(crate) in_flight: IntGauge,
}

impl Metrics {
    /// Makes and registers them.
    ///
    /// # Errors
    /// When a name is taken.
    pub(crate) fn register(registry: &Registry) -> Result<Self, prometheus::Error> {
        let requests = IntCounterVec::new(
            Opts::new("orama_http_requests_total", "Answered HTTP requests"),
            &["route", "method", "status"],
        )?;
        let durations = HistogramVec::new(
            HistogramOpts::new(
                "orama_http_request_seconds",
                "From the request's head to its answer's head",
            )
            .buckets(vec![
                0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5,
                1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0,
            ]),
            &["route", "method"],
        )?;
        let in_flight = IntGauge::new(
            "orama_http_requests_in_flight",
            "HTTP requests being answered now",
        )?;
        registry.register(Box::new(requests.clone()))?;
        registry.register(Box::new(durations.clone()))?;
        registry.register(Box::new(in_flight.clone()))?;
        let success = |r: &super::routes::Route| {
            requests.with_label_values(&[r.pattern, r.method.as_str(), "200"])
        };
        let mut seconds: Vec<Histogram> = ROUTES
            .iter()
            .map(|r| durations.with_label_values(&[r.pattern, r.method.as_str()]))
            .collect();
        seconds.push(durations.with_label_values(&[UNMATCHED, "any"]));
        Ok(Self {
            successes: ROUTES.iter().map(success).collect(),
            requests,
            seconds,
            in_flight,
        })
    }

    /// Counts an answer.
    pub(crate) fn answered(
        &self,
        route: Option<usize>,
        pattern: &'static str,
        method: &Method,
        status: StatusCode,
        took: Duration,
    ) {
        let seconds = route.unwrap_or(ROUTES.len());
        if let Some(histogram) = self.seconds.get(seconds) {
            histogram.observe(took.as_secs_f64());
        }
        match route.and_then(|index| self.successes.get(index)) {
            // HEAD is counted with the GET whose route it takes.
            Some(counter) if status == StatusCode::OK => counter.inc(),
            _ => self
                .requests
                .with_label_values(&[pattern, label(method), status.as_str()])
                .inc(),
        }
    }
}

/// A method's name, with one word for those that anybody can make up.
fn label(method: &Method) -> &'static str {
    match *method {
        Method::GET | Method::HEAD => "GET",
        Method::POST => "POST",
        Method::PUT => "PUT",
        Method::DELETE => "DELETE",
        Method::OPTIONS => "OPTIONS",
        Method::PATCH => "PATCH",
        _ => "other",
    }
}
