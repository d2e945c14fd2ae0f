type Json = Record<string, unknown>;

function isObject(value: unknown): value is Json {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

function equal(a: unknown, b: unknown): boolean {
  if (Array.isArray(a) && Array.isArray(b)) {
    return a.length === b.length && a.every((item, index) => equal(item, b[index]));
  }
  if (isObject(a) && isObject(b)) {
    const names = Object.keys(a);
    return (
      names.length === Object.keys(b).length &&
      names.every((name) => Object.hasOwn(b, name) && equal(a[name], b[name]))
    );
  }
  return a === b;
}

/** The JSON merge patch (RFC 7396) that turns one object into another; `{}` when they are equal. */
export function mergePatch(from: Json, to: Json): Json {
  const patch: Json = {};
  for (const name of Object.keys(from)) {
    if (!Object.hasOwn(to, name)) patch[name] = null;
  }
  for (const [name, value] of Object.entries(to)) {
    const before = Object.hasOwn(from, name) ? from[name] : undefined;
    if (isObject(before) && isObject(value)) {
      const inner = mergePatch(before, value);
      if (Object.keys(inner).length > 0) patch[name] = inner;
    } else if (!equal(before, value)) {
      patch[name] = value;
    }
  }
  return patch;
}
