//! The chart of the README: how many times nginx's rate each server has, from a warm cache.

use std::fmt::Write as _;
use std::path::Path;

/// The servers of the chart, each with its colour.
const SERVERS: [(&str, &str); 3] = [
    ("nginx", "#9aa5b1"),
    ("Varnish", "#5b8def"),
    ("Larder", "#e8590c"),
];

/// What the chart says of numbers that come from a page.
pub const OF_THE_PAGE: &str = "Drawn from the numbers of docs/src/reference/benchmarks.md.";

const WIDTH: f64 = 760.0;
const LABELS_WIDTH: f64 = 170.0;
const BAR_HEIGHT: f64 = 13.0;
const GROUP_HEIGHT: f64 = 54.0;
const HEAD_HEIGHT: f64 = 58.0;

/// One kind of work: what each of [`SERVERS`] reached, in requests or megabytes a second.
pub struct Group {
    pub work: String,
    pub rates: [f64; 3],
    pub unit: &'static str,
}

/// Reads the first table of a page whose head is `| warm | nginx | Varnish | Larder |`, as the
/// page of the benchmarks has it.
pub fn read(page: &Path) -> Vec<Group> {
    let text = std::fs::read_to_string(page).unwrap();
    text.lines()
        .skip_while(|line| !line.starts_with("| warm | nginx | Varnish | Larder |"))
        .skip(2)
        .take_while(|line| line.starts_with('|'))
        .filter_map(|line| {
            let cells: Vec<&str> = line.trim_matches('|').split('|').map(str::trim).collect();
            let unit = ["requests/s", "MB/s"]
                .into_iter()
                .find(|unit| cells[1].contains(unit))?;
            let rate = |cell: &str| {
                let number = cell.split(' ').next().unwrap_or_default();
                number.replace(',', "").parse().unwrap()
            };
            Some(Group {
                work: cells[0].to_owned(),
                rates: [rate(cells[1]), rate(cells[2]), rate(cells[3])],
                unit,
            })
        })
        .collect()
}

/// Draws the groups and writes the file.
pub fn write(groups: &[Group], source: &str, file: &Path) {
    std::fs::write(file, svg(groups, source)).unwrap();
}

fn svg(groups: &[Group], source: &str) -> String {
    let ratios = |group: &Group| group.rates.map(|rate| rate / group.rates[0]);
    let longest = groups.iter().flat_map(ratios).fold(1.0, f64::max);
    let scale = (WIDTH - LABELS_WIDTH - 170.0) / longest;
    let height = HEAD_HEIGHT + GROUP_HEIGHT * groups.len() as f64 + 30.0;
    let mut text = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" role=\"img\" \
         font-family=\"system-ui, sans-serif\" font-size=\"12\">\n\
         <title>Answers from a warm cache, as multiples of nginx's rate</title>\n\
         <rect width=\"{WIDTH}\" height=\"{height}\" fill=\"#ffffff\"/>\n\
         <text x=\"16\" y=\"24\" font-size=\"15\" font-weight=\"600\" fill=\"#1f2933\">\
         Answers from a warm cache (nginx = 1)</text>\n"
    );
    for (index, (name, colour)) in SERVERS.iter().enumerate() {
        let x = 16.0 + 90.0 * index as f64;
        let _ = writeln!(
            text,
            "<rect x=\"{x}\" y=\"34\" width=\"11\" height=\"11\" fill=\"{colour}\"/>\
             <text x=\"{}\" y=\"44\" fill=\"#3e4c59\">{name}</text>",
            x + 16.0
        );
    }
    for (at, group) in groups.iter().enumerate() {
        let top = HEAD_HEIGHT + GROUP_HEIGHT * at as f64;
        let _ = writeln!(
            text,
            "<text x=\"{}\" y=\"{}\" text-anchor=\"end\" fill=\"#1f2933\">{}</text>",
            LABELS_WIDTH - 10.0,
            top + 28.0,
            group.work
        );
        for (index, (ratio, rate)) in ratios(group).into_iter().zip(group.rates).enumerate() {
            let y = top + 4.0 + (BAR_HEIGHT + 2.0) * index as f64;
            let width = ratio * scale;
            let _ = writeln!(
                text,
                "<rect x=\"{LABELS_WIDTH}\" y=\"{y}\" width=\"{width:.1}\" height=\"{BAR_HEIGHT}\" \
                 fill=\"{}\"/><text x=\"{:.1}\" y=\"{}\" font-size=\"11\" fill=\"#3e4c59\">\
                 {ratio:.2} × ({} {})</text>",
                SERVERS[index].1,
                LABELS_WIDTH + width + 6.0,
                y + 10.5,
                thousands(rate),
                group.unit
            );
        }
    }
    let _ = writeln!(
        text,
        "<text x=\"16\" y=\"{}\" font-size=\"11\" fill=\"#616e7c\">{source}</text>\n</svg>",
        height - 12.0
    );
    text
}

/// A whole number with commas between its thousands.
fn thousands(rate: f64) -> String {
    let digits = format!("{rate:.0}");
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}
