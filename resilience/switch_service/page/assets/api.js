// Requests to the service. The session is a cookie that scripts cannot read; its CSRF token goes beside each change.

let csrf = "";

export class Failed extends Error {
  constructor(status, problem) {
    super(problem.detail || problem.title || `the service answered ${status}`);
    this.status = status;
    this.problem = problem;
  }
}

export async function request(method, path, body) {
  const headers = { Accept: "application/json" };
  if (body !== undefined) headers["Content-Type"] = "application/json";
  if (method !== "GET" && csrf !== "") headers["X-CSRF-Token"] = csrf;
  let answer;
  try {
    answer = await fetch(path, {
      method,
      headers,
      body: body === undefined ? undefined : JSON.stringify(body),
      credentials: "same-origin",
      cache: "no-store",
      signal: AbortSignal.timeout(10_000),
    });
  } catch (error) {
    const unknown = method === "GET" ? "" : "; whether it was done is not known, look before you try again";
    throw new Failed(0, { detail: `the service does not answer${unknown}` });
  }
  if (answer.status === 204) return null;
  let found = {};
  try {
    found = await answer.json();
  } catch (error) {
    if (answer.ok) throw new Failed(answer.status, { detail: "the answer was cut off or is no JSON" });
  }
  if (!answer.ok) throw new Failed(answer.status, found);
  return found;
}

function kept(session) {
  csrf = session.csrf;
  return session;
}

export const logIn = async (token) => kept(await request("POST", "/v1/session", { token }));
export const session = async () => kept(await request("GET", "/v1/session"));
export const logOut = () => request("DELETE", "/v1/session");
export const scopes = async () => (await request("GET", "/v1/scopes")).scopes;
export const config = (scope) => request("GET", `/v1/config/${scope}`);
export const history = async (scope, before) =>
  (await request("GET", `/v1/config/${scope}/versions?limit=200${before ? `&before=${before}` : ""}`)).versions;
export const past = (scope, version) => request("GET", `/v1/config/${scope}/versions/${version}`);
export const change = (scope, body) => request("PATCH", `/v1/config/${scope}`, body);
export const rollback = (scope, body) => request("POST", `/v1/config/${scope}/rollback`, body);
export const instances = async (scope) => (await request("GET", `/v1/instances/${scope}`)).instances;
export const levels = async (scope, since) =>
  (await request("GET", `/v1/levels/${scope}?since=${encodeURIComponent(since)}`)).levels;
export const audit = (before) => request("GET", `/v1/audit?limit=100${before ? `&before=${before}` : ""}`);
