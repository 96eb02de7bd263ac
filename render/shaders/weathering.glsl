// Albedo of a surface point: base colour, tone and a pattern fixed to the rest position, so that it moves with the piece.
// p rest position [m], n rest normal, footprint [m] of a sample on the surface: detail finer than that fades to its mean.
// `detail` 0 gives the flat base colour (what the path-traced reference is built with), 1 the full pattern.

uniform float weathering;
uniform float detail;
uniform vec2 brick;                           // [m] length and height with its joints; 0 where there are none

float hash_unit(ivec3 p, int lane) {
    uint h = uint(p.x) * 0x9E3779B1u ^ uint(p.y) * 0x85EBCA77u ^ uint(p.z) * 0xC2B2AE3Du ^ uint(lane) * 0x27D4EB2Fu;
    h ^= h >> 15; h *= 0x2C1B3C6Du; h ^= h >> 12; h *= 0x297A2D39u; h ^= h >> 15;
    return float(h >> 8) * (1.0 / 16777216.0);
}

float value_noise(vec3 p, int lane) {
    vec3 cell = floor(p), f = p - cell;
    ivec3 i = ivec3(cell);
    f = f * f * (3.0 - 2.0 * f);
    vec4 low = vec4(hash_unit(i, lane), hash_unit(i + ivec3(1, 0, 0), lane), hash_unit(i + ivec3(0, 1, 0), lane), hash_unit(i + ivec3(1, 1, 0), lane));
    vec4 high = vec4(hash_unit(i + ivec3(0, 0, 1), lane), hash_unit(i + ivec3(1, 0, 1), lane), hash_unit(i + ivec3(0, 1, 1), lane), hash_unit(i + ivec3(1, 1, 1), lane));
    vec4 layer = mix(low, high, f.z);
    vec2 row = mix(layer.xz, layer.yw, f.x);
    return mix(row.x, row.y, f.y) - 0.5;
}

// Noise of a given frequency [1/m], gone where a sample covers more than half a period.
float grain(vec3 p, float frequency, float footprint, int lane) {
    float visible = clamp(2.0 - 2.0 * footprint * frequency, 0.0, 1.0);
    return visible > 0.0 ? visible * value_noise(p * frequency, lane) : 0.0;
}

// Share of a sample of width w covered by lines of half-width h, one per period, d away from the nearest.
float line_share(float d, float h, float period, float w) {
    float sharp = clamp((h - d) / max(w, 1e-4) + 0.5, 0.0, 1.0);
    return mix(sharp, 2.0 * h / period, smoothstep(0.25 * period, 0.6 * period, w));
}

float line_distance(float x, float period) {
    return abs(x - period * round(x / period));
}

// Coordinates on the face: across (horizontal) and up.
vec2 face_coordinates(vec3 p, vec3 n) {
    if (abs(n.y) > 0.7) return p.xz;
    return vec2(abs(n.x) > abs(n.z) ? p.z : p.x, p.y);
}

const vec3 MORTAR = vec3(0.46, 0.43, 0.38);
const vec2 FORM = vec2(2.4, 1.2);

vec3 masonry(vec3 albedo, vec2 face, float footprint) {
    if (brick.x <= 0.0 || brick.y <= 0.0) return albedo;
    float row = floor(face.y / brick.y);
    float across = face.x + 0.5 * brick.x * mod(row, 2.0);
    float column = floor(across / brick.x);
    float joint = max(line_share(line_distance(across, brick.x), 0.006, brick.x, footprint),
                      line_share(line_distance(face.y, brick.y), 0.006, brick.y, footprint));
    float visible = clamp(1.6 - footprint / brick.y, 0.0, 1.0);
    ivec3 place = ivec3(column, row, 0);
    float tone = 1.0 + visible * 0.7 * (hash_unit(place, 11) - 0.5);
    vec3 hue = mix(vec3(1.0), vec3(1.0, 0.82, 0.78) * 1.1, visible * hash_unit(place, 12));
    return mix(albedo * hue * tone, MORTAR, joint * 0.85);
}

float form_marks(vec2 face, float footprint) {
    vec2 panel = floor(face / FORM);
    float joint = max(line_share(line_distance(face.x, FORM.x), 0.012, FORM.x, footprint),
                      line_share(line_distance(face.y, FORM.y), 0.012, FORM.y, footprint));
    return (1.0 + 0.10 * (hash_unit(ivec3(panel, 3), 21) - 0.5)) * (1.0 - 0.35 * joint);
}

vec3 outer_albedo(int surface, vec3 albedo, vec3 p, vec3 n, float footprint) {
    float wear = weathering;
    vec2 face = face_coordinates(p, n);
    vec3 colour = albedo;
    if (surface == 2) colour = masonry(albedo, face, footprint);
    if (surface == 1) colour *= mix(1.0, form_marks(face, footprint), min(2.0 * wear, 1.0));
    float blotch = grain(p, 0.45, footprint, 1) + 0.5 * grain(p, 1.7, footprint, 2);
    float speck = grain(p, 9.0, footprint, 3) + grain(p, 27.0, footprint, 4);
    float tone = 1.0 + wear * (0.55 * blotch + 0.22 * speck);
    float dirt = 0.0;
    if (abs(n.y) < 0.5) {
        float run = value_noise(vec3(p.x * 2.1, p.y * 0.16, p.z * 2.1), 5) + 0.5 * grain(p * vec3(1.0, 0.06, 1.0), 6.5, footprint, 6);
        dirt = 0.75 * smoothstep(0.02, 0.5, run) + 0.45 * exp(-max(p.y, 0.0) / 0.7);
    } else if (n.y > 0.5) {
        dirt = 0.35 + 0.8 * blotch;
    }
    vec3 stained = colour * vec3(0.52, 0.49, 0.45);
    return mix(colour * tone, stained, clamp(wear * dirt, 0.0, 0.8));
}

// Fresh breaks: aggregate, cavities, paler and cleaner than the outer face.
vec3 inner_albedo(int surface, vec3 albedo, vec3 p, vec3 n, float footprint) {
    float coarse = grain(p, 3.1, footprint, 31), middle = grain(p, 11.0, footprint, 32), fine = grain(p, 34.0, footprint, 33);
    float tone = 1.0 + 0.42 * coarse + 0.50 * middle + 0.45 * fine;
    float stone = smoothstep(0.22, 0.3, middle + 0.4 * fine);
    vec3 colour = albedo * tone;
    if (surface == 2) return mix(colour, masonry(albedo, face_coordinates(p, n), footprint) * tone, 0.6);
    return mix(colour, albedo * vec3(0.72, 0.70, 0.69), 0.5 * stone);
}

vec3 ground_albedo(vec3 albedo, vec3 p, float footprint) {
    float patch_tone = grain(p, 0.05, footprint, 41) + 0.6 * grain(p, 0.21, footprint, 42);
    float rough = 0.5 * grain(p, 1.3, footprint, 43) + 0.35 * grain(p, 6.0, footprint, 44) + 0.3 * grain(p, 24.0, footprint, 45);
    vec3 dry = vec3(1.10, 1.06, 0.99);
    return albedo * (1.0 + 0.4 * rough) * mix(vec3(0.95), dry, clamp(0.5 + 1.1 * patch_tone, 0.0, 1.0));
}

vec3 surface_albedo(int surface, vec3 outer, vec3 inner, float tone, bool fracture, vec3 p, vec3 n, float footprint) {
    vec3 base = (fracture ? inner : outer) * tone;
    if (detail == 0.0) return base;
    vec3 colour = surface == 4 ? ground_albedo(base, p, footprint)
                : fracture ? inner_albedo(surface, base, p, n, footprint)
                : outer_albedo(surface, base, p, n, footprint);
    return clamp(colour, 0.02, 0.95);
}
