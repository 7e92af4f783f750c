"""GLSL of the materials: what a point of a person looks like and which label it has.

Each is a ``void main()`` over the inputs of :mod:`engine.synth.people.shaders`, whose ``begin()`` fills them
and whose ``done()`` takes linear light.
"""

__all__ = ["CLOTH", "COLLAR", "EYE", "GLASSES", "HAIR", "LASH", "LENS", "MOUTH", "SKIN"]


SKIN = """
uniform sampler2D skin_map, relief_map;
uniform vec3 scalp_colour;
uniform float gloss, relief, deep;
void main() {
    begin();
    vec4 painted = textureLod(skin_map, uv, 0.0);
    vec3 albedo = painted.rgb * painted.rgb * (0.82 + 0.18 * painted.rgb)  // about the power 2.2
        * vec3(1.0, 0.93, 0.88);
    float hairs = painted.a;
    vec4 bump = textureLod(relief_map, uv, 0.0);
    float scalp = smoothstep(0.25, 0.75, paint.x + 1.1 * (bump.b - 0.42));
    albedo = mix(albedo, scalp_colour, scalp * paint.w);
    vec3 n0 = normalize(normal), s = normalize(soft), v = normalize(-at);
    float az = (uv.x - 0.5) * 3.0;
    vec3 t = mat3(head) * vec3(cos(az), 0.0, -sin(az)), b = mat3(head) * vec3(0.0, 1.0, 0.0);
    vec3 n = normalize(n0 - relief * ((bump.r - 0.5) * t + (bump.g - 0.5) * b) * 2.0);
    float ao = paint.y;
    vec3 occ = vec3(mix(sqrt(ao), ao, 0.5), ao, ao * (0.9 + 0.1 * ao));  // light that bounces in skin is red
    vec3 nr = normalize(mix(n, s, deep)), ng = normalize(mix(n, s, 0.55 * deep)), nb = normalize(mix(n,
        s, 0.3 * deep));
    vec3 wrap = vec3(0.26, 0.12, 0.06) * deep;
    vec3 nl = clamp((vec3(dot(nr, key_dir), dot(ng, key_dir), dot(nb, key_dir)) + wrap) / (1.0 + wrap),
        0.0, 1.0);
    float open = lit(0.006);
    vec3 sh = vec3(mix(sqrt(open), open, 0.45), open, open * (0.85 + 0.15 * open));
    vec3 sky_r = ambient(nr), sky_b = ambient(nb);
    vec3 light = vec3(sky_r.r, mix(sky_r.g, sky_b.g, 0.6), sky_b.b) * occ;
    light += key_col * nl * sh * mix(vec3(1.0), occ, 0.35);
    vec3 spec = vec3(0.0);
    float wet = bump.b * gloss;
    vec3 h = normalize(key_dir + v);
    float nh = max(dot(n, h), 0.0), fr = 0.03 + 0.6 * pow5(1.0 - max(dot(v, h), 0.0)), n8 = pow8(nh);
    spec += key_col * open * max(dot(n, key_dir), 0.0) * fr * (1.3 * n8 + 4.2 * n8 * pow4(n8)) * wet;
    for (int k = 0; k < 2; k++) {
        float d = max((dot(n, rim_dir[k]) + 0.1) / 1.1, 0.0) * smoothstep(-0.2, 0.3, dot(s, rim_dir[k]));
        light += rim_col[k] * d * ao;
        vec3 hk = normalize(rim_dir[k] + v);
        spec += rim_col[k] * d * ao * wet * (0.03 + 0.5 * pow5(1.0 - max(dot(v, hk), 0.0))) * 2.0 *
            pow16(max(dot(n, hk), 0.0));
    }
    float fv = pow4(1.0 - max(dot(n, v), 0.0));
    spec += sky_b * (0.02 + 0.22 * fv) * ao * wet;
    light *= 1.0 - 0.35 * scalp * paint.w;
    float value = code;
    if (code < 1.5) {
        if (bump.a > 0.75) value = paint.z > 0.5 ? 8.0 : 7.0;
        else if (bump.a > 0.25 && hairs > 0.22) value = 4.0;
        else if (scalp * paint.w > 0.5) value = 11.0;
    }
    done(albedo * light + spec * (1.0 - 0.8 * hairs), value);
}
"""

COLLAR = """
float collar_line(vec3 p) {  // height of the neckline at a point of the chest, cm
    float f = smoothstep(-3.0, 3.0, p.z);
    float line = mix(-9.6, -12.6 - 0.35 * collar_depth, f);
    if (collar_kind > 0.5 && collar_kind < 1.5)
        line = mix(-9.4, mix(-13.0 - collar_depth, -10.5, smoothstep(0.0, 5.5 + 0.2 * collar_depth,
            abs(p.x))), f);
    if (collar_kind > 1.5 && collar_kind < 2.5) line = -8.7 - 0.6 * f;
    if (collar_kind > 2.5) line = mix(-12.0, -16.5 - 0.5 * collar_depth, f) + 0.0 * p.x;
    return line;
}
"""

CLOTH = """
uniform vec3 cloth_a, cloth_b, cloth_c;
uniform float pattern, pattern_scale, collar_kind, collar_depth, folds, sheen, open_front;
float collar_line(vec3 p);
float fold(vec3 p) {
    float r = length(p.xz); float a = atan(p.x, p.z);
    float f = sin(p.y * 1.1 + 2.5 * sin(a * 3.0 + folds) + folds * 3.0) * 0.5;
    f += noise(vec2(a * 5.0 + folds, p.y * 0.35 + r * 0.3)) * 1.6 + noise(vec2(p.x * 0.5, p.y * 0.45 +
        folds)) * 1.2;
    return f;
}
void main() {
    begin();
    float strip = step(0.5, paint.x);
    float r = length(vec2(rest.x, 0.9 * (rest.z + 1.0)));
    float drop = collar_line(rest) - rest.y + 0.22 * max(r - 7.5, 0.0);
    vec3 n = normalize(normal), v = normalize(-at);
    if (dot(n, v) < 0.0) n = -n;
    float e = 0.15;
    float f0 = fold(rest);
    vec3 g = vec3(fold(rest + vec3(e, 0, 0)) - f0, fold(rest + vec3(0, e, 0)) - f0, 0.0) / e;
    n = normalize(n - 0.16 * (g - dot(g, n) * n) * (1.0 - 0.7 * strip));
    vec3 c = cloth_a;
    float wv = noise(rest.xy * 14.0 + rest.z * 9.0);
    if (pattern > 0.5 && pattern < 1.5) c = mix(cloth_a, cloth_b, step(0.5, fract(rest.y * pattern_scale
        * 0.35)));
    if (pattern > 1.5 && pattern < 2.5) {
        float a = step(0.6, fract(rest.x * pattern_scale * 0.3)), b = step(0.6, fract(rest.y *
            pattern_scale * 0.3));
        c = mix(cloth_a, cloth_b, 0.5 * (a + b));
    }
    if (pattern > 2.5 && pattern < 3.5) c = mix(cloth_a, cloth_b, smoothstep(0.45, 0.6, noise(rest.xy *
        pattern_scale * 0.6)));
    if (pattern > 3.5) c *= 0.75 + 0.35 * abs(sin(rest.x * 7.0 + 0.3 * sin(rest.y * 9.0)));
    if (open_front > 0.5 && strip < 0.5 && rest.z > 0.0) {
        float half_v = (rest.y + 27.0) * 0.52;
        if (abs(rest.x) < half_v - 2.6 * step(open_front, 1.5)) {
            c = cloth_b * (0.94 + 0.06 * step(0.12, abs(rest.x)));
            if (open_front > 1.5 && abs(rest.x) < 1.1 + 0.12 * (-10.0 - rest.y)) c = cloth_c * (0.8 + 0.4
                * step(0.5, fract((rest.x + rest.y) * 0.8)));
        } else if (abs(rest.x) < half_v + 1.8) c *= 1.12 - 0.5 * smoothstep(half_v + 1.5, half_v + 1.8,
            abs(rest.x));
    }
    if (strip > 0.5) c = mix(cloth_a, cloth_c, paint.z);
    c *= 0.92 + 0.16 * wv;
    float edge = strip > 0.5 ? 1.0 : 0.62 + 0.38 * smoothstep(0.45, 1.1, drop);
    if (strip < 0.5 && pattern < 4.5 && collar_kind < 1.9) c *= 1.0 - 0.25 * smoothstep(0.12, 0.0,
        abs(drop - 1.9));
    float open = lit(0.008);
    vec3 light = ambient(n) * paint.y * edge + key_col * max((dot(n, key_dir) + 0.08) / 1.08, 0.0) * open;
    for (int k = 0; k < 2; k++) light += rim_col[k] * max(dot(n, rim_dir[k]), 0.0) * 0.8;
    vec3 h = normalize(key_dir + v);
    vec3 spec = key_col * open * sheen * pow(max(dot(n, h), 0.0), 14.0) + sheen * 0.7 * ambient(n) *
        pow(1.0 - max(dot(n, v), 0.0), 3.0);
    done(c * light + spec, 14.0);
}
"""

EYE = """
uniform vec3 eye_at[2], eye_axis[2];  // camera space
uniform vec3 iris_a, iris_b, white;
uniform float iris_cm, pupil, vein, bright, seed, eye_radius;
void main() {
    begin();
    int k = rest.x > 0.0 ? 0 : 1;
    vec3 from = at - eye_at[k], axis = eye_axis[k], v = normalize(-at);
    vec3 d = normalize(from);
    float c = dot(d, axis);
    vec3 side = d - c * axis;
    float r = length(side) * eye_radius / iris_cm;  // 1 at the rim of the iris
    vec3 up = normalize(vec3(0, 1, 0) - axis.y * axis), right = cross(up, axis);
    float a = atan(dot(side, up), dot(side, right));
    float in_iris = 1.0 - smoothstep(0.93, 1.05, r);
    float streak = noise(vec2(a * 14.0 + seed, r * 2.2)) * 0.6 + noise(vec2(a * 34.0, r * 3.0 + seed)) *
        0.4;
    vec3 iris = mix(iris_a, iris_b, smoothstep(0.35, 0.75, r * 0.6 + streak * 0.5 - 0.1));
    iris *= 0.42 + 0.75 * streak;
    iris *= 1.0 - 0.72 * smoothstep(0.72, 1.0, r);
    iris *= 1.0 + 0.9 * max(dot(normalize(side + 1e-5), -key_dir + axis * dot(key_dir, axis)), 0.0) *
        smoothstep(0.3, 0.8, r);
    iris *= smoothstep(pupil - 0.05, pupil + 0.06, r);
    float red = smoothstep(1.2, 2.4, r);
    vec3 ball = white * mix(vec3(1.0), vec3(1.0, 0.82, 0.78), 0.55 * red);
    float veins = smoothstep(0.62, 0.5, abs(noise(vec2(a * 9.0 + seed, r * 2.0)) - 0.5) * 8.0 + 0.3) * red;
    ball = mix(ball, ball * vec3(1.0, 0.72, 0.7), veins * vein);
    vec3 albedo = mix(ball, iris, in_iris);
    float ao = paint.x * (1.0 - 0.3 * smoothstep(1.3, 2.3, r));  // shadow of the lids
    float open = mix(lit(0.012), 1.0, 0.25);
    vec3 n = mix(d, normalize(mix(d, axis, 0.5)), in_iris);
    vec3 light = ambient(n) * ao * ao * 0.72 + key_col * clamp((dot(n, key_dir) + 0.2) / 1.2, 0.0, 1.0) *
        open * ao * 0.72;
    vec3 cornea = normalize(at - (eye_at[k] + axis * 0.5 * eye_radius));
    vec3 shine_n = normalize(mix(d, cornea, 1.0 - smoothstep(0.9, 1.3, r)));
    vec3 h = normalize(key_dir + v);
    float glint = smoothstep(0.982, 0.993, dot(shine_n, h)) * bright * smoothstep(0.25, 0.6, ao);
    vec3 spec = key_col * glint * 1.2;
    for (int i = 0; i < 2; i++) spec += rim_col[i] * 0.8 * pow(max(dot(shine_n, normalize(rim_dir[i] +
        v)), 0.0), 300.0);
    vec3 sky = reflect(-v, shine_n);
    spec += ambient(sky) * (0.02 + 0.05 * smoothstep(0.0, 0.4, sky.y)) * ao;
    done(albedo * light + spec, mix(5.0, 6.0, step(r, 1.0)));
}
"""

MOUTH = """
uniform vec3 tooth, gum;
uniform float gape;  // 0 lips closed .. 1 wide open
void main() {
    begin();
    vec3 n = normalize(normal), v = normalize(-at);
    if (dot(n, v) < 0.0) n = -n;
    float teeth = paint.x, tongue = paint.y;
    vec3 albedo = mix(gum, tooth, teeth);
    albedo = mix(albedo, gum * vec3(1.12, 0.95, 1.0), tongue);
    float deep = paint.z;  // cm behind the front teeth
    float reach = mix(0.55, 1.0, gape);
    float back = exp(-max(deep, 0.0) * mix(0.85, 0.42, gape));
    float bag = 1.0 - max(teeth, tongue);
    float ao = (0.08 + 0.92 * back) * reach * mix(1.0, 0.4, bag) * paint.w;
    float open = mix(lit(0.02), 1.0, 0.15);
    vec3 light = ambient(n) * ao * 0.9 + key_col * clamp((dot(n, key_dir) + 0.3) / 1.3, 0.0, 1.0) * open
        * ao * 0.8;
    vec3 h = normalize(key_dir + v);
    float wet = mix(0.35, 0.5, teeth);
    vec3 spec = (key_col * open * pow(max(dot(n, h), 0.0), 60.0) + 0.06 * ambient(reflect(-v, n))) * wet
        * ao * ao;
    done(albedo * light + spec, code);
}
"""

HAIR = """
uniform sampler2D card;
uniform vec3 hair_root, hair_tip, hair_gloss;
uniform float hair_value, card_lod, gray;
void main() {
    begin();
    vec4 s = textureLod(card, uv, card_lod);
    vec3 t = normalize(soft), n = normalize(normal), v = normalize(-at);
    float along = paint.x, ao = paint.y;
    vec3 c = mix(hair_root, hair_tip, smoothstep(0.0, 0.9, along + 0.4 * (s.r - 0.5)));
    c *= (0.4 + 1.2 * s.r) * (0.86 + 0.28 * paint.z);
    c = mix(c, vec3(dot(c, vec3(0.4)) + 0.22), gray * step(0.6, hash(vec2(floor(uv.x * 90.0), paint.z *
        31.0))));
    float open = lit(0.012);
    float tl = dot(t, key_dir), th = dot(t, normalize(key_dir + v));
    float sl = sqrt(max(1.0 - tl * tl, 0.0)), sh = sqrt(max(1.0 - th * th, 0.0));
    float facing = clamp(0.5 + 0.75 * dot(n, key_dir), 0.0, 1.0);
    vec3 light = ambient(n) * ao * ao + key_col * open * facing * mix(0.4, 1.0, ao) * (0.35 + 0.65 * sl)
        * 0.8;
    float shift = 0.12 * (s.r - 0.5);
    float th1 = clamp(th + shift - 0.06, -1.0, 1.0), th2 = clamp(th + shift + 0.1, -1.0, 1.0);
    vec3 spec = key_col * open * facing * ao * (hair_gloss * pow4(pow16(max(1.0 - th1 * th1, 0.0))) * 0.22
        + c * pow16(max(1.0 - th2 * th2, 0.0)) * 0.5) * (0.4 + 0.9 * s.r);
    for (int k = 0; k < 2; k++) {
        float f = clamp(0.35 + 0.75 * dot(n, rim_dir[k]), 0.0, 1.0);
        light += rim_col[k] * f * ao * 0.7;
        float tk = dot(t, normalize(rim_dir[k] + v));
        spec += rim_col[k] * f * ao * hair_gloss * 0.14 * pow16(max(1.0 - tk * tk, 0.0));
    }
    done(c * light + spec, hair_value);
}
"""

LASH = """
uniform vec3 lash_colour;
void main() {
    begin();
    done(lash_colour * (ambient(normalize(normal)) + 0.3 * key_col), 1.0);
}
"""

GLASSES = """
uniform vec3 frame_colour;
uniform float frame_gloss;
void main() {
    begin();
    vec3 n = normalize(normal), v = normalize(-at);
    vec3 h = normalize(key_dir + v);
    vec3 light = ambient(n) + key_col * max(dot(n, key_dir), 0.0) * lit(0.012);
    vec3 spec = key_col * pow(max(dot(n, h), 0.0), 50.0) * frame_gloss + ambient(reflect(-v, n)) *
        frame_gloss * 0.4;
    done(frame_colour * light + spec, 13.0);
}
"""

LENS = """
uniform vec4 tint;
uniform float shine;
void main() {
    begin();
    vec3 n = normalize(normal), v = normalize(-at);
    if (dot(n, v) < 0.0) n = -n;
    vec3 h = normalize(key_dir + v);
    vec3 r = reflect(-v, n);
    float f = 0.04 + 0.4 * pow4(1.0 - max(dot(n, v), 0.0));
    float streak = smoothstep(0.55, 0.75, noise(vec2(rest.x * 0.5 + rest.y * 0.35 + shine * 7.0, 0.3)));
    vec3 c = ambient(r) * f * (0.3 + 0.9 * shine * streak) + key_col * 0.5 * (0.2 + shine) *
        smoothstep(0.985, 0.997, dot(n, h));
    float a = clamp(tint.a + f * 0.3 + dot(c, vec3(0.2)), 0.0, 0.9);
    out_colour = vec4(film(tint.rgb * tint.a * (0.4 * ambient(n)) + c) , a);
}
"""
