//! The list of calls: the URL of the page is the search.

use super::model::Call;
use super::{Frame, Pages, Told, encoded};
use askama::Template;
use axum::extract::{Query, State};
use axum::http::{HeaderMap, StatusCode, Uri};
use axum::response::Response;
use serde::Deserialize;

/// Width of the picture of days.
const WIDTH: usize = 1200;
/// Height of the highest bar.
const HEIGHT: u64 = 48;

#[derive(Clone, Default, Deserialize)]
pub(super) struct Params {
    q: Option<String>,
    from: Option<String>,
    to: Option<String>,
    cursor: Option<String>,
}

impl Params {
    /// The same search with other days, or further on.
    fn link(&self, from: Option<&str>, to: Option<&str>, cursor: Option<&str>) -> String {
        let all = [("q", self.q.as_deref()), ("from", from), ("to", to), ("cursor", cursor)];
        let said =
            all.iter().filter_map(|(key, value)| Some((key, value.filter(|value| !value.is_empty())?)));
        said.map(|(key, value)| format!("{key}={}", encoded(value))).collect::<Vec<_>>().join("&")
    }
}

#[derive(Default, Deserialize)]
struct List {
    calls: Vec<Call>,
    next: Option<String>,
}

#[derive(Deserialize)]
struct DayCount {
    day: String,
    calls: u64,
}

#[derive(Default, Deserialize)]
struct Days {
    days: Vec<DayCount>,
    more: bool,
}

struct Day {
    day: String,
    calls: u64,
    link: String,
    x: usize,
    y: u64,
    width: usize,
    height: u64,
}

#[derive(Template)]
#[template(path = "search.html")]
struct Page {
    frame: Frame,
    q: String,
    from: String,
    to: String,
    told: Option<String>,
    days: Vec<Day>,
    counted: String,
    width: usize,
    calls: Vec<Call>,
    next: Option<String>,
}

/// `GET /`
pub(super) async fn page(
    State(pages): State<Pages>,
    Query(params): Query<Params>,
    headers: HeaderMap,
    uri: Uri,
) -> Response {
    let made = make(&pages, &params, &headers).await;
    pages.shown(&headers, &uri, made).await
}

async fn make(pages: &Pages, params: &Params, headers: &HeaderMap) -> Result<Page, Told> {
    let frame = pages.frame(headers, "/").await?;
    let (from, to) = (params.from.as_deref(), params.to.as_deref());
    let query = params.link(from, to, None);
    let path = format!("/calls?{}", params.link(from, to, params.cursor.as_deref()));
    // The error of a search stands beside it.
    let (list, told) = match pages.ask::<List>(headers, &path).await {
        Ok(list) => (list, None),
        Err(Told::Refused(StatusCode::BAD_REQUEST, detail)) => (List::default(), Some(detail)),
        Err(other) => return Err(other),
    };
    let found: Days = match &told {
        None if !list.calls.is_empty() => pages.ask(headers, &format!("/calls/days?{query}")).await?,
        _ => Days::default(),
    };
    let total: u64 = found.days.iter().map(|day| day.calls).sum();
    let counted = format!("{}{total} calls", if found.more { "The newest " } else { "" });
    let next = list.next.map(|cursor| format!("/?{}", params.link(from, to, Some(&cursor))));
    let zone = &pages.app.config.site.zone;
    Ok(Page {
        frame,
        q: params.q.clone().unwrap_or_default(),
        from: from.unwrap_or_default().to_owned(),
        to: to.unwrap_or_default().to_owned(),
        told,
        days: bars(params, found.days),
        counted,
        width: WIDTH,
        calls: list.calls.into_iter().map(|call| call.at(zone)).collect(),
        next,
    })
}

fn bars(params: &Params, mut days: Vec<DayCount>) -> Vec<Day> {
    days.sort_by(|a, b| a.day.cmp(&b.day));
    let highest = days.iter().map(|day| day.calls).max().unwrap_or(1).max(1);
    let step = (WIDTH / days.len().max(1)).clamp(2, 40);
    let skip = days.len().saturating_sub(WIDTH / step);
    let bar = |(at, found): (usize, DayCount)| {
        let height = (found.calls * HEIGHT).div_ceil(highest);
        let link = format!("/?{}", params.link(Some(&found.day), Some(&found.day), None));
        let (x, y, width) = (at * step, HEIGHT + 4 - height, step - 1);
        Day { link, x, y, width, height, day: found.day, calls: found.calls }
    };
    days.into_iter().skip(skip).enumerate().map(bar).collect()
}
