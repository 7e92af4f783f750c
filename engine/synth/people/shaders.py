"""GLSL around the materials: vertices, shadows, what is seen, and where a material gets its inputs from.

A frame is drawn in two steps. The first finds which triangle every sample sees and writes its number:
``kind`` << 24 | triangle. The second shades each sample once, in large rectangles: it looks up the triangle's
corners, meets them with the sample's ray and blends what they carry. So no material runs for the rims of
small triangles or for what lies behind others. Things of few samples (lashes, frames, lenses) are drawn
forward in the second step.

Light is linear; the last step of every material is a soft shoulder and the sRGB curve.
"""

__all__ = ["FORWARD", "GATHERED", "LIGHT", "RECTANGLE", "SEEN_CARD", "SEEN_CLOTH", "SEEN_LASH", "SEEN_SOLID",
           "SHADOW_CARD", "SHADOW_SOLID", "VERTEX"]  # fmt: skip


VERTEX = """
#version 330
uniform mat4 body, head, proj, sun;
in vec3 in_pos; in vec3 in_normal; in vec3 in_rest;
in vec2 in_uv; in vec4 in_paint; in float in_weight;
out vec3 at, normal, rest; out vec2 uv; out vec4 paint; out vec4 sunny;
invariant gl_Position;
void main() {
    mat4 m = body + in_weight * (head - body);
    vec4 p = m * vec4(in_pos, 1.0);
    at = p.xyz; normal = mat3(m) * in_normal;
    rest = in_rest; uv = in_uv; paint = in_paint;
    sunny = sun * p;
    gl_Position = proj * p;
}
"""

RECTANGLE = """
#version 330
in vec2 in_corner;
void main() { gl_Position = vec4(in_corner, 0.0, 1.0); }
"""

_HOLES_CARD = """
uniform float cut;  // below this cover a card is air
uniform float card_lod;
uniform sampler2D card;
in vec2 uv; in vec4 paint;
bool hole() { return textureLod(card, uv, card_lod).g < cut + 0.35 * max(4.0 * paint.x - 3.0, 0.0); }
"""

_HOLES_LASH = """
in vec2 uv; in vec4 paint;
bool hole() {
    float a = fract(uv.x * 26.0 + 0.3 * uv.y), w = mix(0.9, 0.35, uv.y);
    return (uv.y > 0.16 && abs(a - 0.5) > 0.5 * w) || uv.y > paint.x;
}
"""

_HOLES_CLOTH = """
uniform float collar_kind, collar_depth;
in vec3 rest; in vec4 paint;
float collar_line(vec3 p);
bool hole() {
    float r = length(vec2(rest.x, 0.9 * (rest.z + 1.0)));
    return paint.x < 0.5 && collar_line(rest) - rest.y + 0.22 * max(r - 7.5, 0.0) < 0.45;
}
"""

_SEEN = """
uniform int first_id;
layout(location = 0) out int out_id;
void main() {
    if (hole()) discard;
    out_id = first_id + gl_PrimitiveID;
}
"""

_TOP = "\n#version 330\n"

SHADOW_SOLID = _TOP + "void main() {}\n"
SHADOW_CARD = _TOP + _HOLES_CARD + "void main() { if (hole()) discard; }\n"
SEEN_SOLID = _TOP + "bool hole() { return false; }" + _SEEN
SEEN_CARD = _TOP + _HOLES_CARD + _SEEN
SEEN_LASH = _TOP + _HOLES_LASH + _SEEN
SEEN_CLOTH = _TOP + _HOLES_CLOTH + _SEEN

FORWARD = """
#version 330
uniform mat4 head;
in vec3 at, normal, rest; in vec2 uv; in vec4 paint; in vec4 sunny;
void begin() {}
"""
"""Inputs interpolated by the rasteriser."""

GATHERED = """
#version 330
uniform mat4 head, body, sun;
uniform isampler2D seen, corners;  // [side, side] ids; triangles of 3 vertices and a label
uniform sampler2D vertices;  // four texels each: place, share; normal, u; soft, v; paint
uniform vec3 lens;  // focal px, centre px
uniform float step_px;  // px of the picture from sample to sample
uniform int kind;
vec3 at, normal, soft, rest; vec2 uv; vec4 paint, sunny; float code;

vec4 corner(int vertex, int k) {
    int i = 4 * vertex + k;
    return texelFetch(vertices, ivec2(i & 1023, i >> 10), 0);
}
vec3 place(vec4 v) {
    vec3 b = (body * vec4(v.xyz, 1.0)).xyz;
    return b + v.w * ((head * vec4(v.xyz, 1.0)).xyz - b);
}
void begin() {
    int id = texelFetch(seen, ivec2(gl_FragCoord.xy), 0).r;
    if ((id >> 24) != kind) discard;
    int f = id & 0xffffff;
    ivec4 t = texelFetch(corners, ivec2(f & 1023, f >> 10), 0);
    vec4 a = corner(t.x, 0), b = corner(t.y, 0), c = corner(t.z, 0);
    vec3 p = place(a), e = place(b) - p, g = place(c) - p;
    vec2 px = gl_FragCoord.xy * step_px - 0.5 - lens.yz;
    vec3 ray = vec3(px.x / lens.x, -px.y / lens.x, -1.0);
    vec3 h = cross(ray, g), q = cross(e, p);  // the ray meets the triangle's plane: Moeller and Trumbore
    float inverse = 1.0 / dot(e, h), v1 = -dot(p, h) * inverse, v2 = dot(ray, q) * inverse;
    float v0 = 1.0 - v1 - v2;
    at = p + v1 * e + v2 * g;
    float share = v0 * a.w + v1 * b.w + v2 * c.w;
    mat3 m = mat3(body) + share * (mat3(head) - mat3(body));
    vec4 n = v0 * corner(t.x, 1) + v1 * corner(t.y, 1) + v2 * corner(t.z, 1);
    vec4 s = v0 * corner(t.x, 2) + v1 * corner(t.y, 2) + v2 * corner(t.z, 2);
    paint = v0 * corner(t.x, 3) + v1 * corner(t.y, 3) + v2 * corner(t.z, 3);
    normal = m * n.xyz; soft = m * s.xyz; rest = s.xyz;
    uv = vec2(n.w, s.w);
    code = float(t.w);
    sunny = sun * vec4(at, 1.0);
}
"""
"""Inputs looked up in the triangle that the sample sees. What has no soft normal carries its rest there."""

LIGHT = """
uniform vec3 harm[9];
uniform vec3 key_dir, key_col, rim_dir[2], rim_col[2];
uniform float exposure, sun_soft, contrast;
uniform sampler2DShadow shade;
layout(location = 0) out vec4 out_colour;
layout(location = 1) out uint out_label;

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
void done(vec3 linear, float value) {
    out_colour = vec4(film(linear), 1.0);
    out_label = uint(value + 0.5);
}
"""
