//! A plan for a terminal.

use crate::sections;
use crate::table::Style;

use super::PlanReport;

impl PlanReport<'_> {
    /// For a terminal.
    #[must_use]
    pub fn text(&self, style: Style) -> String {
        sections::text(&self.headline(), &self.sections(), &self.notes(), style)
    }
}
