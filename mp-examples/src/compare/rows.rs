//! What the benchmarks have noted: figures by title, ratios, and the goals of both.

/// A benchmark's tables.
#[derive(Debug, Default, PartialEq)]
pub struct Report {
    /// In the order in which they were noted.
    pub tables: Vec<Table>,
}

/// What contended for one figure.
#[derive(Debug, Default, PartialEq)]
pub struct Table {
    /// What was measured.
    pub title: String,
    /// In which unit.
    pub unit: String,
    /// The contenders.
    pub rows: Vec<Row>,
    /// Ratios of medians within this table, and medians with a goal.
    pub verdicts: Vec<Verdict>,
}

/// The figures of one contender.
#[derive(Debug, Clone, PartialEq)]
pub struct Row {
    /// The contender.
    pub name: String,
    /// Half of the rounds were below it.
    pub median: f64,
    /// One round in ten was below it.
    pub low: f64,
    /// One round in ten was above it.
    pub high: f64,
}

/// A figure with a goal.
#[derive(Debug, Clone, PartialEq)]
pub struct Verdict {
    /// Of what.
    pub what: String,
    /// The figure.
    pub value: f64,
    /// The goal as text, for instance `<= 1.4`; empty if there is none.
    pub goal: String,
}

impl Report {
    /// Reads the lines of `MP_BENCH_ROWS`.
    ///
    /// # Errors
    /// The first line that is none of theirs.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut report = Self::default();
        let mut last = None;
        for line in text.lines() {
            let bad = || format!("this is not a line of a benchmark: {line:?}");
            let number = |text: &str| text.parse().map_err(|_| bad());
            let columns: Vec<_> = line.split('\t').collect();
            match columns[..] {
                ["row", title, unit, name, median, low, high] => {
                    let table = report.table(title, unit);
                    last = Some(table);
                    report.tables[table].rows.push(Row {
                        name: name.to_owned(),
                        median: number(median)?,
                        low: number(low)?,
                        high: number(high)?,
                    });
                }
                ["ratio" | "goal", what, goal, value] => {
                    let verdict =
                        Verdict { what: what.to_owned(), value: number(value)?, goal: goal.to_owned() };
                    report.tables[last.ok_or_else(bad)?].verdicts.push(verdict);
                }
                _ => return Err(bad()),
            }
        }
        Ok(report)
    }

    /// The place of the table with this title.
    fn table(&mut self, title: &str, unit: &str) -> usize {
        self.tables.iter().position(|table| table.title == title).unwrap_or_else(|| {
            self.tables.push(Table { title: title.to_owned(), unit: unit.to_owned(), ..Table::default() });
            self.tables.len() - 1
        })
    }
}

impl Table {
    /// Whether a larger figure is the better one: rates are, times and sizes are not.
    #[must_use]
    pub fn more_is_better(&self) -> bool {
        self.unit.contains("/s")
    }

    /// The best of our own contenders.
    #[must_use]
    pub fn ours(&self) -> Option<&Row> {
        self.rows.iter().filter(|row| row.is_ours()).min_by(|a, b| self.times(a, b).total_cmp(&1.0))
    }

    /// How many times as good as `b` the contender `a` is, turned round: 2 if it needs twice the time or does half as much.
    #[must_use]
    pub fn times(&self, a: &Row, b: &Row) -> f64 {
        if self.more_is_better() { b.median / a.median } else { a.median / b.median }
    }
}

impl Row {
    /// Whether the contender is one of these crates; their rows begin with the crate's name.
    #[must_use]
    pub fn is_ours(&self) -> bool {
        self.name.starts_with("mp-")
    }
}

impl Verdict {
    /// Whether the goal is met; `None` if there is none that can be read.
    #[must_use]
    pub fn met(&self) -> Option<bool> {
        let mut words = self.goal.split_whitespace();
        let relation = words.next()?;
        let bound: f64 = words.next()?.parse().ok()?;
        match relation {
            "<=" => Some(self.value <= bound),
            ">=" => Some(self.value >= bound),
            _ => None,
        }
    }
}
