// What differs between two values or two documents, entry by entry. No element is made here.

function flat(value, path, into) {
  if (value !== null && typeof value === "object" && !Array.isArray(value)) {
    const names = Object.keys(value).sort();
    if (names.length === 0) into.set(path, "{}");
    for (const name of names) flat(value[name], path === "" ? name : `${path} › ${name}`, into);
  } else if (value !== null && value !== undefined) {
    into.set(path, JSON.stringify(value));
  }
}

export function entries(value) {
  const found = new Map();
  flat(value, "", found);
  return found;
}

// -> [{path, old, new}], old or new undefined where there is none
export function compare(older, newer) {
  const before = entries(older);
  const after = entries(newer);
  const paths = [...new Set([...before.keys(), ...after.keys()])].sort();
  return paths
    .filter((path) => before.get(path) !== after.get(path))
    .map((path) => ({ path, old: before.get(path), new: after.get(path) }));
}

// -> [{section, name, old, new}]
export function differences(older, newer) {
  const found = [];
  for (const section of [...new Set([...Object.keys(older), ...Object.keys(newer)])].sort()) {
    const before = older[section] ?? {};
    const after = newer[section] ?? {};
    for (const name of [...new Set([...Object.keys(before), ...Object.keys(after)])].sort()) {
      if (compare(before[name], after[name]).length > 0) {
        found.push({ section, name, old: before[name], new: after[name] });
      }
    }
  }
  return found;
}
