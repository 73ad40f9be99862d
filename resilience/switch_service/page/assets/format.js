// Moments, spans and values as people read them.

export function span(seconds) {
  const whole = Math.max(0, Math.round(seconds));
  if (whole < 60) return `${whole} s`;
  if (whole < 3600) return `${Math.floor(whole / 60)} min`;
  if (whole < 86400) return `${Math.floor(whole / 3600)} h ${Math.floor((whole % 3600) / 60)} min`;
  return `${Math.floor(whole / 86400)} d ${Math.floor((whole % 86400) / 3600)} h`;
}

export function ago(text, now) {
  const seconds = (now - Date.parse(text)) / 1000;
  if (Number.isNaN(seconds)) return "at an unknown time";
  return seconds < 2 ? "just now" : `${span(seconds)} ago`;
}

export function left(text, now) {
  const seconds = (Date.parse(text) - now) / 1000;
  if (Number.isNaN(seconds)) return text;
  return seconds <= 0 ? "over" : `${span(seconds)} left`;
}

export function clock(text) {
  const at = new Date(text);
  if (Number.isNaN(at.getTime())) return "";
  return at.toLocaleString(undefined, { month: "short", day: "numeric", hour: "2-digit", minute: "2-digit", second: "2-digit", hour12: false });
}

export function delay(seconds) {
  if (typeof seconds !== "number") return "not told";
  if (seconds < 0) return "clock behind";
  if (seconds < 1) return `${Math.round(seconds * 1000)} ms`;
  return seconds < 100 ? `${seconds.toFixed(1)} s` : span(seconds);
}

export function short(value) {
  if (value === null || value === undefined) return "nothing";
  return typeof value === "string" ? value : JSON.stringify(value);
}
