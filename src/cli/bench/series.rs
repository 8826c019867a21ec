//! The 5,000 series, registered once.

use anyhow::bail;

use super::drain;
use super::ground::Ground;
use crate::cli::readings::SERIES;
use crate::model::ids::SeriesId;

/// Lets the service meet all series; returns their ids in the order of the devices.
///
/// # Errors
/// If it does not meet them.
pub async fn register(ground: &Ground) -> anyhow::Result<Vec<SeriesId>> {
    drain::run(ground, None, 100, SERIES).await?;
    let ids = "SELECT series_id FROM series JOIN devices USING (device_id) ORDER BY external_id";
    let series: Vec<_> = ground.owner.query(ids, &[]).await?.iter().map(|row| SeriesId(row.get(0))).collect();
    if series.len() != SERIES {
        bail!("{} series were registered instead of {}", series.len(), SERIES);
    }
    Ok(series)
}
