"""GLSL around the materials: which samples are shaded, where a material gets its inputs from, light.

Samples come sorted by material, one after the other in a table, so every lane of the processor has work and
no material runs for what lies behind others. The result is a table of the same shape.

Light is linear; the last step of every material is a soft shoulder and the sRGB curve.
"""

__all__ = ["INPUTS", "LIGHT", "RECTANGLE"]


RECTANGLE = """
#version 330
in vec2 in_corner;
uniform vec2 lines;  // first and last line, clip space
void main() { gl_Position = vec4(in_corner.x, mix(lines.x, lines.y, in_corner.y), 0.0, 1.0); }
"""

INPUTS = """
#version 330
uniform mat4 head, sun;
uniform sampler2D rows;  // four texels a sample: place, label; normal, u; soft or rest, v; paint
vec3 at, normal, soft, rest; vec2 uv; vec4 paint, sunny; float code;
void begin() {
    ivec2 p = ivec2(gl_FragCoord.xy) * ivec2(4, 1);
    vec4 a = texelFetch(rows, p, 0), n = texelFetch(rows, p + ivec2(1, 0), 0);
    vec4 s = texelFetch(rows, p + ivec2(2, 0), 0);
    paint = texelFetch(rows, p + ivec2(3, 0), 0);
    at = a.xyz; code = a.w; normal = n.xyz; soft = s.xyz; rest = s.xyz; uv = vec2(n.w, s.w);
    sunny = sun * vec4(at, 1.0);
}
"""

LIGHT = """
uniform vec3 harm[9];
uniform vec3 key_dir, key_col, rim_dir[2], rim_col[2];
uniform float exposure, sun_soft, contrast;
uniform sampler2DShadow shade;
layout(location = 0) out vec4 out_colour;

vec3 ambient(vec3 n) {
    return max(harm[0] + harm[1] * n.y + harm[2] * n.z + harm[3] * n.x
        + harm[4] * (n.x * n.y) + harm[5] * (n.y * n.z) + harm[6] * (3.0 * n.z * n.z - 1.0)
        + harm[7] * (n.x * n.z) + harm[8] * (n.x * n.x - n.y * n.y), vec3(0.0));
}
float lit(float bias) {
    vec3 s = sunny.xyz * 0.5 + 0.5; s.z -= bias;
    float r = sun_soft;
    float sum = texture(shade, s + vec3(r, 0.4 * r, 0.0)) + texture(shade, s + vec3(-0.4 * r, r, 0.0));
    sum += texture(shade, s + vec3(-r, -0.4 * r, 0.0)) + texture(shade, s + vec3(0.4 * r, -r, 0.0));
    return sum * 0.25;
}
vec3 film(vec3 c) {
    c *= exposure;
    vec3 over = max(c - 0.55, 0.0);
    c = min(c, 0.55) + 0.45 * over / (over + 0.45);
    vec3 q = sqrt(max(c, 1e-5)), r = sqrt(q), e = sqrt(r);  // the sRGB curve without a power
    vec3 s = 0.662002687 * q + 0.684122060 * r - 0.323583601 * e - 0.0225411470 * c;
    return mix(vec3(0.5), s, contrast);
}
float pow4(float x) { x *= x; return x * x; }
float pow5(float x) { return x * pow4(x); }
float pow8(float x) { x *= x; x *= x; return x * x; }
float pow16(float x) { return pow4(pow4(x)); }
float hash(vec2 p) {
    vec3 q = fract(vec3(p.xyx) * 0.1031);
    q += dot(q, q.yzx + 33.33);
    return fract((q.x + q.y) * q.z);
}
float noise(vec2 p) {
    vec2 i = floor(p), f = fract(p); f = f * f * (3.0 - 2.0 * f);
    return mix(mix(hash(i), hash(i + vec2(1, 0)), f.x), mix(hash(i + vec2(0, 1)), hash(i + vec2(1, 1)),
        f.x), f.y);
}
void done(vec3 linear, float value) { out_colour = vec4(film(linear), value / 255.0); }
"""
