//! Charts: from samples to where lines, bars, marks and labels lie. Pure geometry; a template draws it as SVG with classes alone, for
//! the style sheet knows light and dark, and nothing may be styled in place.

use crate::format;

/// The size of the picture in its own units; the page scales it.
pub const WIDTH: f64 = 720.0;
/// See [`WIDTH`].
pub const HEIGHT: f64 = 220.0;
const LEFT: f64 = 64.0;
const RIGHT: f64 = 12.0;
const TOP: f64 = 10.0;
const BOTTOM: f64 = 26.0;

const HOUR_MS: u64 = 3_600_000;
const DAY_MS: u64 = 24 * HOUR_MS;
/// More lines or bars than this nobody tells apart.
const MOST_SERIES: usize = 5;

/// What is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    /// Things.
    Count,
    /// Bytes.
    Bytes,
    /// Milliseconds, told in seconds.
    Milliseconds,
}

/// How it is drawn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// A line through what was sampled.
    Line,
    /// A bar for what happened in each slot.
    Bar,
}

/// One of the things that a chart shows.
#[derive(Debug, Clone, PartialEq)]
pub struct Series {
    /// Its name.
    pub name: &'static str,
    /// Its values, by the beginning of their slot, in the order of time. What was not sampled is not there.
    pub values: Vec<(u64, f64)>,
}

/// What a chart is drawn from.
#[derive(Debug, Clone, PartialEq)]
pub struct Data {
    /// Its name in the page's links, unique on the page.
    pub id: &'static str,
    /// Its title.
    pub title: &'static str,
    /// What is measured.
    pub unit: Unit,
    /// How it is drawn.
    pub form: Form,
    /// Where it begins, in milliseconds since 1970.
    pub from_ms: u64,
    /// Where it ends.
    pub until_ms: u64,
    /// How long a slot is.
    pub slot_ms: u64,
    /// What is shown.
    pub series: Vec<Series>,
}

/// A chart, ready to be drawn.
#[derive(Debug, Clone, PartialEq)]
pub struct Chart {
    /// See [`Data::id`].
    pub id: &'static str,
    /// See [`Data::title`].
    pub title: &'static str,
    /// What was drawn, by its class.
    pub lines: Vec<Line>,
    /// The lines across, with what they stand for.
    pub across: Vec<Mark>,
    /// The moments along the bottom.
    pub along: Vec<Moment>,
    /// The same in numbers.
    pub rows: Vec<Row>,
    /// Whether the moments are days.
    pub days: bool,
}

/// A series as it is drawn.
#[derive(Debug, Clone, PartialEq)]
pub struct Line {
    /// Its name.
    pub name: &'static str,
    /// Its class: `s1` and so on.
    pub class: String,
    /// The path of its lines, empty where there are none.
    pub path: String,
    /// Samples that stand alone.
    pub dots: Vec<(String, String)>,
    /// Bars: x, y, width, height.
    pub bars: Vec<[String; 4]>,
    /// Its last value, in words; empty when it has none.
    pub last: String,
}

/// A line across, and what it stands for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mark {
    /// How high.
    pub y: String,
    /// What for.
    pub label: String,
}

/// A moment along the bottom.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Moment {
    /// Where.
    pub x: String,
    /// When, in milliseconds since 1970.
    pub ms: u64,
    /// In words, where there are no scripts.
    pub label: String,
}

/// A row of the table beside the picture.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// The beginning of the slot, in milliseconds since 1970.
    pub ms: u64,
    /// A value for each series, empty where there is none.
    pub cells: Vec<String>,
}

impl Chart {
    /// Draws it.
    pub fn draw(data: &Data) -> Self {
        let days = data.until_ms.saturating_sub(data.from_ms) > 2 * DAY_MS;
        let values = data.series.iter().flat_map(|series| &series.values);
        let most = values.map(|(_, value)| *value).fold(0.0, f64::max);
        let scale = Scale { data, top: top(most, data.unit) };
        let lines = data.series.iter().take(MOST_SERIES).enumerate();
        Self {
            id: data.id,
            title: data.title,
            lines: lines.map(|(place, series)| scale.line(place, series)).collect(),
            across: scale.across(),
            along: scale.along(days),
            rows: rows(data, days),
            days,
        }
    }

    /// Whether there is nothing to see.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }
}

/// Where values and moments lie.
struct Scale<'a> {
    data: &'a Data,
    top: f64,
}

/// Spans of time are far below what `f64` counts exactly (2^53).
#[expect(clippy::cast_precision_loss, reason = "a picture needs no more than 53 bits")]
fn number(number: u64) -> f64 {
    number as f64
}

fn written(place: f64) -> String {
    format!("{place:.1}")
}

impl Scale<'_> {
    fn x(&self, ms: u64) -> f64 {
        let span = number(self.data.until_ms.saturating_sub(self.data.from_ms)).max(1.0);
        let at = number(ms.saturating_sub(self.data.from_ms));
        LEFT + (at / span).clamp(0.0, 1.0) * (WIDTH - LEFT - RIGHT)
    }

    fn y(&self, value: f64) -> f64 {
        let high = (value / self.top).clamp(0.0, 1.0);
        HEIGHT - BOTTOM - high * (HEIGHT - TOP - BOTTOM)
    }

    fn line(&self, place: usize, series: &Series) -> Line {
        let last = series.values.last().map(|(_, value)| told(*value, self.data.unit));
        let mut line = Line {
            name: series.name,
            class: format!("s{}", place + 1),
            path: String::new(),
            dots: Vec::new(),
            bars: Vec::new(),
            last: last.unwrap_or_default(),
        };
        match self.data.form {
            Form::Line => self.through(series, &mut line),
            Form::Bar => {
                let bar = |(ms, value): &(u64, f64)| self.bar(place, *ms, *value);
                line.bars = series.values.iter().filter_map(bar).collect();
            }
        }
        line
    }

    /// A line through values that lie a slot apart; where more lies between two, nothing is drawn.
    fn through(&self, series: &Series, line: &mut Line) {
        let gap = |one: &(u64, f64), other: &(u64, f64)| {
            other.0.saturating_sub(one.0) > self.data.slot_ms + self.data.slot_ms / 2
        };
        for run in series.values.chunk_by(|one, other| !gap(one, other)) {
            let mut points =
                run.iter().map(|(ms, value)| (written(self.x(*ms)), written(self.y(*value))));
            match run {
                [_] => line.dots.extend(points.next()),
                _ => {
                    for (place, (x, y)) in points.enumerate() {
                        let letter = if place == 0 { 'M' } else { 'L' };
                        line.path.push_str(&format!("{letter}{x} {y}"));
                    }
                }
            }
        }
    }

    /// Bars of one slot stand beside each other.
    fn bar(&self, place: usize, ms: u64, value: f64) -> Option<[String; 4]> {
        let beside = number(u64::try_from(self.data.series.len()).unwrap_or(1)).max(1.0);
        let (left, right) = (self.x(ms), self.x(ms.saturating_add(self.data.slot_ms)));
        let wide = (right - left).max(1.0) * 0.8 / beside;
        let x = left + wide * number(u64::try_from(place).unwrap_or(0));
        let (top, bottom) = (self.y(value), self.y(0.0));
        (value > 0.0).then(|| [x, top, wide, bottom - top].map(written))
    }

    fn across(&self) -> Vec<Mark> {
        let marks = [0.0, 0.25, 0.5, 0.75, 1.0].map(|part| part * self.top);
        let mark =
            |value: f64| Mark { y: written(self.y(value)), label: told(value, self.data.unit) };
        marks.map(mark).into()
    }

    fn along(&self, days: bool) -> Vec<Moment> {
        let step = if days { 5 * DAY_MS } else { 4 * HOUR_MS };
        let first = self.data.from_ms.div_ceil(step).saturating_mul(step);
        let moments = (0..).map(|number| first + number * step);
        let inside = moments.take_while(|ms| *ms <= self.data.until_ms);
        let moment = |ms: u64| {
            let iso = format::iso(&ms);
            let label = if days { iso.get(5..10) } else { iso.get(11..16) };
            Moment { x: written(self.x(ms)), ms, label: label.unwrap_or_default().to_owned() }
        };
        inside.map(moment).collect()
    }
}

/// The least round number that is no less, so that its quarters are round too.
fn top(most: f64, unit: Unit) -> f64 {
    let (base, least) = match unit {
        Unit::Count => (10.0, 4.0),
        Unit::Bytes => (1024.0, 1024.0),
        Unit::Milliseconds => (10.0, 4000.0),
    };
    if most <= least {
        return least;
    }
    let mut power: f64 = least / 4.0;
    while power * base * 4.0 < most {
        power *= base;
    }
    let steps: &[f64] = match unit {
        Unit::Bytes => &[1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0, 1024.0],
        Unit::Count | Unit::Milliseconds => &[1.0, 2.0, 5.0, 10.0],
    };
    let fits = steps.iter().map(|step| 4.0 * power * step).find(|top| *top >= most);
    fits.unwrap_or(most)
}

/// A value in words.
fn told(value: f64, unit: Unit) -> String {
    match unit {
        Unit::Count if value >= 10.0 || value.fract() < 0.05 => format!("{value:.0}"),
        Unit::Count => format!("{value:.1}"),
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "sizes are whole and not below 0"
        )]
        Unit::Bytes => format::size(&(value.max(0.0) as u64)),
        Unit::Milliseconds if value >= 100_000.0 => format!("{:.0} s", value / 1000.0),
        Unit::Milliseconds => format!("{:.1} s", value / 1000.0),
    }
}

/// The table: the last value of each hour, or of each day; of bars their sum.
fn rows(data: &Data, days: bool) -> Vec<Row> {
    let wide = if days { DAY_MS } else { HOUR_MS };
    let mut slots: Vec<u64> =
        data.series.iter().flat_map(|s| &s.values).map(|(ms, _)| ms - ms % wide).collect();
    slots.sort_unstable();
    slots.dedup();
    let cell = |series: &Series, slot: u64| {
        let inside = series.values.iter().filter(|(ms, _)| ms - ms % wide == slot);
        let mut values = inside.map(|(_, value)| *value);
        let one = match data.form {
            Form::Line => values.next_back(),
            Form::Bar => values.reduce(|sum, value| sum + value),
        };
        one.map(|value| told(value, data.unit)).unwrap_or_default()
    };
    let row = |ms: u64| Row { ms, cells: data.series.iter().map(|s| cell(s, ms)).collect() };
    slots.into_iter().map(row).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const FROM: u64 = 1_700_006_400_000;

    fn data(values: &[(u64, f64)]) -> Data {
        let values =
            values.iter().map(|(minute, value)| (FROM + minute * 60_000, *value)).collect();
        Data {
            id: "up",
            title: "Devices",
            unit: Unit::Count,
            form: Form::Line,
            from_ms: FROM,
            until_ms: FROM + DAY_MS,
            slot_ms: 60_000,
            series: vec![Series { name: "up", values }],
        }
    }

    fn line(values: &[(u64, f64)]) -> Line {
        Chart::draw(&data(values)).lines.remove(0)
    }

    #[test]
    fn a_chart_of_nothing_is_empty_and_has_its_axes() {
        let chart = Chart::draw(&data(&[]));
        assert!(chart.is_empty());
        assert_eq!((chart.across.len(), chart.along.len()), (5, 7));
        assert_eq!(chart.across[4].label, "4");
        assert_eq!(chart.lines[0].path, "");
    }

    #[test]
    fn one_sample_is_a_dot() {
        let one = line(&[(0, 4.0)]);
        assert_eq!((one.dots, one.path.as_str()), (vec![("64.0".into(), "10.0".into())], ""));
        assert_eq!(one.last, "4");
    }

    #[test]
    fn a_gap_is_a_gap() {
        let gap = line(&[(0, 0.0), (1, 1.0), (3, 2.0), (4, 2.0), (9, 1.0)]);
        assert_eq!(gap.path.matches('M').count(), 2, "{}", gap.path);
        assert_eq!(gap.path.matches('L').count(), 2, "{}", gap.path);
        assert_eq!(gap.dots.len(), 1);
    }

    #[test]
    fn everything_lies_inside_the_picture() {
        let mut all = data(&[]);
        let far = [(0, -5.0), (FROM - 5, 1e9), (FROM + 9 * DAY_MS, f64::MAX), (u64::MAX, 0.0)];
        all.series = vec![Series { name: "x", values: far.to_vec() }];
        let inside = |text: &str, most: f64| (0.0..=most).contains(&text.parse().unwrap());
        for form in [Form::Line, Form::Bar] {
            all.form = form;
            let line = Chart::draw(&all).lines.remove(0);
            assert!(line.dots.iter().all(|(x, y)| inside(x, WIDTH) && inside(y, HEIGHT)));
            assert!(line.bars.iter().all(|[x, y, ..]| inside(x, WIDTH) && inside(y, HEIGHT)));
            let numbers = line.path.split(['M', 'L', ' ']).filter(|text| !text.is_empty());
            assert!(numbers.into_iter().all(|text| inside(text, WIDTH)), "{}", line.path);
        }
    }

    #[test]
    fn the_scale_ends_at_a_round_number() {
        for (most, unit, expected) in [
            (0.0, Unit::Count, "4"),
            (4.1, Unit::Count, "8"),
            (17.0, Unit::Count, "20"),
            (200.0, Unit::Count, "200"),
            (4999.0, Unit::Count, "8000"),
            (30_000.0, Unit::Milliseconds, "40.0 s"),
            (3.0 * 1024.0 * 1024.0, Unit::Bytes, "4 MiB"),
            (900.0 * 1_073_741_824.0, Unit::Bytes, "1 TiB"),
        ] {
            let top = top(most, unit);
            assert!(top >= most, "{most}");
            assert_eq!(told(top, unit), expected, "{most}");
        }
    }

    #[test]
    fn the_table_has_an_hour_a_row_and_bars_are_added_up() {
        let values: Vec<_> = (0..180).map(|minute| (minute, 1.0)).collect();
        let mut data = data(&values);
        assert_eq!(Chart::draw(&data).rows.len(), 3);
        data.form = Form::Bar;
        let chart = Chart::draw(&data);
        assert_eq!(chart.rows[0], Row { ms: FROM - FROM % HOUR_MS, cells: vec!["60".to_owned()] });
        data.until_ms = FROM + 31 * DAY_MS;
        let month = Chart::draw(&data);
        assert!(month.days && month.rows.len() == 1 && month.along.len() >= 6);
    }
}
