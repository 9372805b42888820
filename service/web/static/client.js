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

/** No reply, or one that is not of the service. */
export class NoReply extends Error {}

function authorization() {
  return hasKey() ? { Authorization: `Bearer ${storage.getItem("key")}` } : {};
}

export const saveKey = (key) => storage.setItem("key", key.trim());
export const forgetKey = () => storage.removeItem("key");
export const hasKey = () => Boolean(storage.getItem("key"));

/** Return {status, body} of a reply, or of the only picture in it; null for a foreign one. */
function parsed(status, text) {
  try {
    const reply = JSON.parse(text), body = { ...reply, ...reply.predictions?.[0] };
    const { error, detail, explanation, digits, correction } = body;
    if (error?.detail) return { status: error.status, body: error };
    if (status === 200 ? explanation || digits?.[0]?.explanation || correction : detail?.trim?.()) return { status, body };
  } catch {} // a page of a proxy
  if (status < 400 || status > 499) return null;
  return { status, body: { detail: `A server before the service answered with status ${status}` } };
}

/** Post a body and return {status, body, retryAfter}; reject with NoReply if there is none.
 *
 * onProgress receives the share that was sent, from 0 to 1, once the request has taken
 * 250 ms.
 */
function post(url, content, signal, onProgress = () => {}) {
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
      const { status, responseText } = request, reply = parsed(status, responseText);
      const retryAfter = Number(request.getResponseHeader("Retry-After"));
      if (reply) resolve({ ...reply, retryAfter });
      else reject(new NoReply());
    });
    for (const end of ["error", "abort", "timeout"]) request.addEventListener(end, () => reject(new NoReply()));
    request.addEventListener("loadend", () => clearTimeout(timer));
    signal?.addEventListener("abort", () => request.abort());
    request.open("POST", url);
    for (const [name, value] of Object.entries(authorization())) request.setRequestHeader(name, value);
    request.send(content);
  });
}

/** Send a correction of a picture, a data: URL; return what to say. */
export async function correct(url, digit) {
  const bytes = Uint8Array.from(atob(url.split(",")[1]), (character) => character.charCodeAt(0));
  const form = new FormData();
  form.append("image", new Blob([bytes]));
  form.append("digit", digit);
  try {
    const { status, body } = await post("feedback", form);
    return status === 200 ? "Kept by the service." : body.detail;
  } catch {
    return "The service does not respond.";
  }
}

/** Classify a picture, a data: URL; one of several digits is asked for again.
 *
 * Return {status, body, retryAfter, several}.
 */
export async function classify(url, signal, onProgress) {
  // a refusal in a list is no error in the console
  const list = new Blob([JSON.stringify({ images: [url] })], { type: "application/json" });
  const reply = await post("predict?explain=1", list, signal, onProgress);
  if (!("n_digits" in reply.body)) return { ...reply, several: false };
  if (signal.aborted) throw new NoReply();
  return { ...(await post("predict?explain=1&several=1", list, signal, onProgress)), several: true };
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
