//! Figures with logarithmic axes, as SVG.

use std::fmt::Write;

/// A line through points, each (x, y) above 0.
pub(crate) struct Panel<'a> {
    pub(crate) title: &'a str,
    pub(crate) x: &'a str,
    pub(crate) points: Vec<(f64, f64)>,
}

const WIDTH: f64 = 360.0;
const HEIGHT: f64 = 260.0;
/// Left, right, above and below the plot.
const MARGIN: [f64; 4] = [56.0, 16.0, 34.0, 44.0];

/// The panels side by side. Axes span whole powers of ten; a slope of one is drawn in grey: what grows in proportion is parallel to it.
pub(crate) fn svg(panels: &[Panel<'_>]) -> String {
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {} {HEIGHT}\" font-family=\"sans-serif\" font-size=\"11\">\n\
         <rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n",
        WIDTH * panels.len() as f64
    );
    for (index, panel) in panels.iter().enumerate() {
        draw(&mut svg, panel, WIDTH * index as f64);
    }
    svg + "</svg>\n"
}

/// Whole powers of ten around the values.
fn span(values: impl Iterator<Item = f64> + Clone) -> (f64, f64) {
    let least = values.clone().fold(f64::INFINITY, f64::min).log10().floor();
    let most = values.fold(0.0, f64::max).log10().ceil();
    (least, most.max(least + 1.0))
}

fn draw(svg: &mut String, panel: &Panel<'_>, offset: f64) {
    let [left, right, above, below] = MARGIN;
    let (x0, x1) = span(panel.points.iter().map(|point| point.0));
    let (y0, y1) = span(panel.points.iter().map(|point| point.1));
    let x = |log: f64| offset + left + (log - x0) / (x1 - x0) * (WIDTH - left - right);
    let y = |log: f64| HEIGHT - below - (log - y0) / (y1 - y0) * (HEIGHT - above - below);
    let mut text = |at: (f64, f64), anchor: &str, text: &str| {
        let _ = writeln!(svg, "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"{anchor}\">{text}</text>", at.0, at.1);
    };
    text((offset + WIDTH / 2.0, 18.0), "middle", panel.title);
    text((offset + WIDTH / 2.0, HEIGHT - 8.0), "middle", panel.x);
    let mut lines = String::new();
    let mut line = |from: (f64, f64), to: (f64, f64), color: &str| {
        let ((x1, y1), (x2, y2)) = (from, to);
        let _ =
            writeln!(lines, "<line x1=\"{x1:.1}\" y1=\"{y1:.1}\" x2=\"{x2:.1}\" y2=\"{y2:.1}\" stroke=\"{color}\"/>");
    };
    for power in x0 as i32..=x1 as i32 {
        text((x(power.into()), HEIGHT - below + 16.0), "middle", &number(power));
        line((x(power.into()), y(y0)), (x(power.into()), y(y1)), "#eee");
    }
    for power in y0 as i32..=y1 as i32 {
        text((offset + left - 6.0, y(power.into()) + 4.0), "end", &number(power));
        line((x(x0), y(power.into())), (x(x1), y(power.into())), "#eee");
    }
    // In proportion to the input, from the first point on.
    if let Some(&(first_x, first_y)) = panel.points.first() {
        let (from_x, from_y) = (first_x.log10(), first_y.log10());
        let steps = (x1 - from_x).min(y1 - from_y);
        line((x(from_x), y(from_y)), (x(from_x + steps), y(from_y + steps)), "#bbb");
    }
    svg.push_str(&lines);
    let path: Vec<String> =
        panel.points.iter().map(|(px, py)| format!("{:.1},{:.1}", x(px.log10()), y(py.log10()))).collect();
    let _ =
        writeln!(svg, "<polyline points=\"{}\" fill=\"none\" stroke=\"#1264a3\" stroke-width=\"2\"/>", path.join(" "));
    for point in &path {
        if let Some((x, y)) = point.split_once(',') {
            let _ = writeln!(svg, "<circle cx=\"{x}\" cy=\"{y}\" r=\"3\" fill=\"#1264a3\"/>");
        }
    }
}

fn number(power: i32) -> String {
    match power {
        ..0 => format!("{:.*}", power.unsigned_abs() as usize, 10f64.powi(power)),
        _ => 10u64.pow(power.unsigned_abs()).to_string(),
    }
}
