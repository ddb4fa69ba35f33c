// Colours in OKLCH (Ottosson 2020), whose lightness is the eye's.

export const isDark = () => matchMedia('(prefers-color-scheme: dark)').matches;

function bytes(L, C, H) {
  const angle = H * Math.PI / 180, a = C * Math.cos(angle), b = C * Math.sin(angle);
  const l = (L + 0.3963377774 * a + 0.2158037573 * b) ** 3;
  const m = (L - 0.1055613458 * a - 0.0638541728 * b) ** 3;
  const s = (L - 0.0894841775 * a - 1.2914855480 * b) ** 3;
  const linear = [4.0767416621 * l - 3.3077115913 * m + 0.2309699292 * s,
    -1.2684380046 * l + 2.6097574011 * m - 0.3413193965 * s, -0.0041960863 * l - 0.7034186147 * m + 1.7076147010 * s];
  return linear.map((x) => 255 * (x <= 0.0031308 ? 12.92 * Math.max(0, x) : 1.055 * Math.min(1, x) ** (1 / 2.4) - 0.055));
}

// A quantity from 0 to 1: lightness goes one way, from the page's ground on, and the hue with it.
export function scale(t, dark = isDark()) {
  return dark ? bytes(0.2 + 0.7 * t, 0.03 + 0.13 * Math.sin(Math.PI * (0.15 + 0.7 * t)) * t ** 0.4, 285 - 190 * t)
    : bytes(0.985 - 0.62 * t, 0.005 + 0.14 * t ** 0.6, 100 + 185 * t);
}

// A probability behind text: the same lightness everywhere, from sure (cool) to surprised (warm) at one in a thousand.
export function tint(logprob, dark = isDark()) {
  if (logprob === null || logprob === undefined) return 'transparent';
  const t = Math.min(1, -logprob / Math.log(1000));
  const [r, g, b] = dark ? bytes(0.36, 0.035 + 0.055 * t, 190 - 165 * t) : bytes(0.93, 0.03 + 0.05 * t, 190 - 150 * t);
  return `rgb(${r}, ${g}, ${b})`;
}

export const css = ([r, g, b]) => `rgb(${r}, ${g}, ${b})`;

export function percent(logprob) {
  const p = 100 * Math.exp(logprob);
  return p >= 99.95 ? '100%' : p >= 10 ? `${p.toFixed(0)}%` : p >= 0.1 ? `${p.toFixed(1)}%` : p >= 0.001 ? `${p.toFixed(3)}%` : '<0.001%';
}
