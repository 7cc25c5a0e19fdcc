// Asks the predictor for prices and sends back a true price. Needs Node.js 18 or newer, and no packages.
//
//   PREDICTOR_URL=http://localhost:8000 node predict.mjs
//
// If the service requires a key, set API_KEY as well. The page of another site cannot do this, because CORS is off.

const ATTEMPTS = 4;
const URL_OF_PREDICTOR = process.env.PREDICTOR_URL ?? "http://localhost:8000";
const HEADERS = { "content-type": "application/json" };
if (process.env.API_KEY) HEADERS.authorization = `Bearer ${process.env.API_KEY}`;

const AGAWAM = { city: "Agawam", state: "Massachusetts", zip_code: "01001", bed: 3, bath: 2, house_size: 1276 };
const BOSTON = { city: "Boston", state: "Massachusetts", bed: 2 }; // unknown fields may be left out
const WRONG = { city: "Agawam", state: "Massachusetts", bed: "three" };

const pause = (seconds) => new Promise((resolve) => setTimeout(resolve, seconds * 1000));

// Sends a request. After a 429 or 503, waits for the seconds in `Retry-After`, and sends it again.
async function post(path, body) {
  for (let attempt = 1; ; attempt++) {
    const signal = AbortSignal.timeout(30_000);
    const options = { method: "POST", headers: HEADERS, body: JSON.stringify(body), signal };
    const answer = await fetch(URL_OF_PREDICTOR + path, options);
    if (![429, 503].includes(answer.status) || attempt === ATTEMPTS) return answer;
    const seconds = Number(answer.headers.get("retry-after") ?? 1);
    console.error(`${answer.status}, next attempt in ${seconds} s: ${await answer.text()}`);
    await pause(seconds);
  }
}

// The body of an answer that has no error.
async function body(answer) {
  if (!answer.ok) throw new Error(`${answer.status}: ${await answer.text()}`);
  return answer.json();
}

// Prices one listing. Returns the request id, which feedback needs.
async function onePrice() {
  const { request_id, price, low, high } = await body(await post("/predict", AGAWAM));
  console.log(`one listing: ${price.toFixed(2)}, 80 % interval ${low.toFixed(2)} to ${high.toFixed(2)}`);
  return request_id;
}

// Prices several listings in one request. `prices`, `low` and `high` have the order of the listings.
async function listOfPrices() {
  const { prices, low, high } = await body(await post("/predict", [AGAWAM, BOSTON]));
  prices.forEach((price, i) =>
    console.log(`in a list: ${price.toFixed(2)}, 80 % interval ${low[i].toFixed(2)} to ${high[i].toFixed(2)}`),
  );
}

// Reads a 422: each error names the field and the rule that the value breaks. Do not send the same body again.
async function invalidListing() {
  const answer = await post("/predict", WRONG);
  if (answer.status === 422) {
    for (const { loc, msg } of (await answer.json()).detail) console.log(`invalid: ${loc.join(".")}: ${msg}`);
  }
}

// Sends the price for which the house was sold. A 404 can mean that the price is not in the log yet.
async function sendFeedback(request_id, price) {
  let answer = await post("/feedback", { request_id, price });
  for (let attempt = 1; answer.status === 404 && attempt < 10; attempt++) {
    await pause(1);
    answer = await post("/feedback", { request_id, price });
  }
  console.log(`true price stored: ${(await body(answer)).price.toFixed(2)}`);
}

try {
  const requestId = await onePrice();
  await listOfPrices();
  await invalidListing();
  await sendFeedback(requestId, 251_000);
} catch (error) {
  console.error(error.cause ? `no answer from ${URL_OF_PREDICTOR}: ${error.cause.message}` : error.message);
  process.exitCode = 1;
}
