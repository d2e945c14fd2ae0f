/** Where to go after signing in. */

const LOGIN = "/login/";

/** The sign-in page, remembering where the user wanted to be. */
export function loginPath(wanted: string): string {
  return wanted === "/" || wanted.startsWith(LOGIN)
    ? LOGIN
    : `${LOGIN}?next=${encodeURIComponent(wanted)}`;
}

/**
 * The page to open after signing in.
 *
 * Only a path of this application is followed: anything else in the address would let a link send
 * a user who has just signed in to another site.
 */
export function returnPath(next: string | null): string {
  if (!next?.startsWith("/") || /^\/[/\\]|[\u0000-\u001f]/.test(next)) return "/";
  return next.startsWith(LOGIN) ? "/" : next;
}
