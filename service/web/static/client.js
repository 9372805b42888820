// Requests to the service: upload with progress, API key, and the model's description.

const PATIENCE = 250; // ms before progress is shown

/** What this tab keeps, if the browser allows it. */
export const storage = (() => {
  try {
    return sessionStorage;
  } catch {
    return { getItem: () => null, setItem() {}, removeItem() {} };
  }
})();

const savedKey = () => storage.getItem("key");

/** No reply, or one that is not of the service. */
export class NoReply extends Error {}

function authorization() {
  return savedKey() ? { Authorization: `Bearer ${savedKey()}` } : {};
}

export const saveKey = (key) => storage.setItem("key", key.trim());
export const forgetKey = () => storage.removeItem("key");
export const hasKey = () => Boolean(savedKey());

/** Return the body of a reply; null for a foreign one. */
function parsed(status, text) {
  try {
    const body = JSON.parse(text);
    const { detail, probabilities, digits, correction } = body;
    if (status === 200 ? probabilities || digits || correction : detail?.trim?.()) return body;
  } catch {} // a page of a proxy
  return status < 400 || status > 499 ? null : { detail: `A server before the service answered with status ${status}` };
}

/** Post a form and return {status, body, retryAfter}; reject with NoReply if there is none.
 *
 * onProgress receives the share that was sent, from 0 to 1, once the request has taken
 * 250 ms.
 */
function post(url, form, signal, onProgress) {
  return new Promise((resolve, reject) => {
    // fetch does not report the progress of an upload
    const request = new XMLHttpRequest();
    let share = 0;
    const report = () => onProgress(share);
    const timer = setTimeout(() => {
      report();
      request.upload.addEventListener("progress", report);
    }, PATIENCE);
    request.upload.addEventListener("progress", ({ loaded, total }) => (share = loaded / total));
    request.upload.addEventListener("load", () => (share = 1));
    request.addEventListener("load", () => {
      const { status, responseText } = request, body = parsed(status, responseText);
      const retryAfter = Number(request.getResponseHeader("Retry-After"));
      if (body) resolve({ status, body, retryAfter });
      else reject(new NoReply(`status ${status}`));
    });
    for (const end of ["error", "abort", "timeout"]) request.addEventListener(end, () => reject(new NoReply(end)));
    request.addEventListener("loadend", () => clearTimeout(timer));
    signal.addEventListener("abort", () => request.abort());
    request.open("POST", url);
    for (const [name, value] of Object.entries(authorization())) request.setRequestHeader(name, value);
    request.send(form);
  });
}

function formOf({ blob, name }) {
  const form = new FormData();
  form.append("image", blob, name);
  return form;
}

/** Send a correction; return what to say. */
export async function correct(upload, digit) {
  const form = formOf(upload);
  form.append("digit", digit);
  try {
    const { status, body } = await post("feedback", form, new AbortController().signal, () => {});
    return status === 200 ? "Kept by the service: picture, answer and correction." : body.detail;
  } catch {
    return "The service does not respond.";
  }
}

/** Classify an upload {blob, name}; a picture of several digits is asked for again.
 *
 * Return {status, body, retryAfter, several}.
 */
export async function classify(upload, signal, onProgress) {
  const reply = await post("predict?explain=1", formOf(upload), signal, onProgress);
  if (!("n_digits" in reply.body)) return { ...reply, several: false };
  if (signal.aborted) throw new NoReply("abort");
  return { ...(await post("predict?explain=1&several=1", formOf(upload), signal, onProgress)), several: true };
}

/** Return the description of the model, or null where the service does not give it. */
export async function describeModel() {
  try {
    const reply = await fetch("model", { headers: authorization() });
    return reply.ok ? await reply.json() : null;
  } catch {
    return null;
  }
}

/** Return the curl command for the same request. */
export function curlCommand(name, several) {
  const url = several ? `"${new URL("predict?several=1", location)}"` : new URL("predict", location);
  const quoted = /^[\w.-]+$/.test(name) ? name : `'${name.replaceAll("'", "'\\''")}'`;
  const key = hasKey() ? ' -H "Authorization: Bearer $KEY"' : "";
  return `curl -F image=@${quoted}${key} ${url}`;
}
