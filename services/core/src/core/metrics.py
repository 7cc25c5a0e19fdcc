"""Names of the platform's own metrics. Services, dashboards and alerts import them from here."""

from __future__ import annotations

PREDICTIONS = "house_predictions_total"  # labels: model_version, outcome
PREDICTION_PRICE = "house_prediction_price_dollars"
PREDICT_SECONDS = "house_predict_seconds"  # label: handler
REQUESTS_REFUSED = "house_requests_refused_total"  # label: reason
CLIENT_REQUESTS = "house_client_requests_total"  # labels: client, outcome
REQUESTS_IN_FLIGHT = "house_requests_in_flight"
MODEL_INFO = "house_model_info"  # labels: name, version, run_id
MODEL_LOADED = "house_model_loaded_timestamp_seconds"
MODEL_REFRESH = "house_model_refresh_total"  # label: outcome
MODEL_REFUSED = "house_model_versions_refused_total"  # label: version
PREDICTION_LOG_ROWS = "house_prediction_log_rows_total"  # label: outcome
PREDICTION_LOG_DROPPED = "house_prediction_log_dropped_total"  # label: reason
PREDICTION_LOG_QUEUED = "house_prediction_log_queued_requests"
PREDICTION_LOG_SPILL_BYTES = "house_prediction_log_spill_bytes"
PREDICTION_LOG_SECONDS = "house_prediction_log_write_seconds"
PREDICTION_LOG_LAST_WRITE = "house_prediction_log_last_write_timestamp_seconds"
# the challenger, which prices the same listings as the champion
CHALLENGER_INFO = "house_challenger_info"  # labels: name, version, run_id
CHALLENGER_LOADED = "house_challenger_loaded_timestamp_seconds"
CHALLENGER_REFRESH = "house_challenger_refresh_total"  # label: outcome
CHALLENGER_REFUSED = "house_challenger_versions_refused_total"  # label: version
SHADOW_LISTINGS = "house_shadow_listings_total"  # label: outcome
SHADOW_DIFFERENCE = "house_shadow_difference_ratio"
SHADOW_DOLLARS = "house_shadow_price_dollars_total"  # label: model
SHADOW_ROWS = "house_shadow_rows_total"  # label: outcome
LEDGER_UP = "house_ledger_up"
# values from the ledger
BATCHES = "house_batches"  # label: state
BATCH_ROWS = "house_batch_rows"  # label: kind
UNDECIDED = "house_undecided_batches"
BATCH_GAPS = "house_batch_gaps"
DECISIONS = "house_decisions"  # label: decision
PROMOTIONS = "house_promotions"  # label: outcome
HOLDOUT_MAE = "house_holdout_mae_dollars"  # label: model
HOLDOUT_RMSE = "house_holdout_rmse_dollars"  # label: model
FEEDBACK = "house_feedback"  # label: version
LIVE_MAE = "house_live_mae_dollars"  # label: version
LIVE_MEDIAN_APE = "house_live_median_ape_ratio"  # label: version
LIVE_COVERAGE = "house_live_coverage_ratio"  # label: version
INVALID_PRICES = "house_invalid_prices"  # label: source
LAST_RUN = "house_last_run_timestamp_seconds"
LAST_BACKUP = "house_backup_last_success_timestamp_seconds"  # label: kind
