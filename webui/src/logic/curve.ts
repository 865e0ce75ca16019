// Cubic Bézier curves as the wires draw them: eight numbers, start, two controls, end; x and y in turn.

export type Curve = readonly number[];

/** Out of an SVG path "M0,0 C1,1 2,2 3,3"; null for any other. */
export function curveOf(path: string): Curve | null {
  const numbers = path.match(/-?\d+(?:\.\d+)?(?:e-?\d+)?/g)?.map(Number) ?? [];
  return numbers.length === 8 ? numbers : null;
}

/** The point at `t` from 0 (start) to 1 (end), in Bernstein form. */
export function along(curve: Curve, t: number): [number, number] {
  const [x0 = 0, y0 = 0, x1 = 0, y1 = 0, x2 = 0, y2 = 0, x3 = 0, y3 = 0] = curve;
  const u = 1 - t;
  const [a, b, c, d] = [u * u * u, 3 * u * u * t, 3 * u * t * t, t * t * t];
  return [a * x0 + b * x1 + c * x2 + d * x3, a * y0 + b * y1 + c * y2 + d * y3];
}
