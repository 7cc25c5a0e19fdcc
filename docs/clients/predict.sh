#!/usr/bin/env bash
# Asks the predictor for prices and sends back a true price. Needs curl 7.76 or newer.
#
#   PREDICTOR_URL=http://localhost:8000 bash predict.sh
#
# If the service requires a key, set API_KEY as well.
set -euo pipefail

url=${PREDICTOR_URL:-http://localhost:8000}
answer=$(mktemp)
trap 'rm -f "$answer"' EXIT
agawam='{"city": "Agawam", "state": "Massachusetts", "zip_code": "01001", "bed": 3, "bath": 2, "house_size": 1276}'
boston='{"city": "Boston", "state": "Massachusetts", "bed": 2}' # unknown fields may be left out
wrong='{"city": "Agawam", "state": "Massachusetts", "bed": "three"}'

# post PATH BODY [OPTION ...]: prints the body of the answer; fails if the status is 400 or more.
# After a 503, --retry waits for the seconds in `Retry-After`, and sends the request again.
post() {
  local path=$1 body=$2 code=0
  shift 2
  curl --silent --show-error --fail-with-body --max-time 30 --retry 3 --output "$answer" \
    --header 'Content-Type: application/json' ${API_KEY:+--header "Authorization: Bearer $API_KEY"} \
    --data "$body" "$@" "$url$path" || code=$?
  cat "$answer"
  echo
  return "$code"
}

# One listing: the answer has `price`, and `low` and `high`, the ends of the 80 % interval.
# The request id of feedback can be your own: at most 128 visible ASCII characters, not used before.
request_id=example-$(date +%s)-$RANDOM$RANDOM
post /predict "$agawam" --header "X-Request-ID: $request_id"

# A list: `prices`, `low` and `high` have the order of the listings.
post /predict "[$agawam, $boston]"

# An invalid listing: 422. `detail` names each field and its rule. Do not send the same body again.
post /predict "$wrong" || echo "invalid"

# The price for which the house was sold. A 404 can mean that the price is not in the log yet.
post /feedback "{\"request_id\": \"$request_id\", \"price\": 251000}" --retry 9 --retry-delay 1 --retry-all-errors
