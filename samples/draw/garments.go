package main

const (
	white  = 0xffffff
	paper  = 0xf1f1ee
	black  = 0x1d1d20
	ash    = 0x8b8d92
	silver = 0xc4c7cc
	tan    = 0xb98a58
	brown  = 0x6b4226
	gold   = 0xc9a13b
)

// drawings are in the order of products.csv.
var drawings = append(append([]drawing{}, clothes...), things...)

var clothes = []drawing{
	{"tshirt", []layer{
		fill(0xb23a35, "M84 44 Q112 62 140 44 L170 56 L198 96 L172 112 L162 98 L162 190 L62 190 L62 98 L52 112 L26 96 L54 56 Z"),
		stroke(0x8c2a27, 4, "M84 45 Q112 66 140 45"), both(stroke(0x8c2a27, 2, "M62 98 L64 76")), stroke(0x8c2a27, 2, "M62 184 L162 184"),
	}},
	{"shirt", []layer{
		fill(0x9fc0de, "M88 38 L136 38 L164 50 L186 168 L164 172 L152 96 L152 194 L72 194 L72 96 L60 172 L38 168 L60 50 Z"),
		both(stroke(0x6f95b8, 2, "M72 96 L76 70")), fill(0xb7d2ea, "M88 36 L112 58 L98 70 L82 44 Z"), fill(0xb7d2ea, "M136 36 L112 58 L126 70 L142 44 Z"),
		stroke(0x6f95b8, 2, "M112 58 L112 194"), both(stroke(0x6f95b8, 2, "M98 70 L82 44 L88 36 L112 58 L98 70")),
		fill(white, ellipse(116, 80, 2.5, 2.5)), fill(white, ellipse(116, 104, 2.5, 2.5)), fill(white, ellipse(116, 128, 2.5, 2.5)), fill(white, ellipse(116, 152, 2.5, 2.5)), fill(white, ellipse(116, 176, 2.5, 2.5)),
		stroke(0x6f95b8, 2, "M124 84 L144 84 L144 104 L134 110 L124 104 Z"), both(stroke(0x6f95b8, 2, "M39 158 L61 162")),
	}},
	{"top", []layer{
		fill(0xe88aa5, "M76 42 Q84 84 112 84 Q140 84 148 42 L160 42 Q158 80 168 100 Q160 130 176 178 Q112 198 48 178 Q64 130 56 100 Q66 80 64 42 Z"),
		stroke(0xc1637f, 3, "M76 42 Q84 84 112 84 Q140 84 148 42"), stroke(0xc1637f, 2, "M62 126 Q112 140 162 126"), stroke(0xc1637f, 2, "M49 172 Q112 192 175 172"),
		both(stroke(0xd3738f, 2, "M92 138 Q88 160 84 184")), fill(white, ellipse(112, 104, 3, 3)), fill(white, ellipse(112, 116, 3, 3)),
	}},
	{"kurta", []layer{
		fill(0xe3d3ad, "M90 26 L134 26 L160 38 L184 146 L166 150 L150 86 L156 206 L68 206 L74 86 L58 150 L40 146 L64 38 Z"),
		fill(0xc9b384, "M102 28 L122 28 L120 108 L104 108 Z"), stroke(0xa58f5f, 3, "M90 26 Q112 40 134 26"), fill(0x8a7342, ellipse(112, 50, 2.5, 2.5)), fill(0x8a7342, ellipse(112, 68, 2.5, 2.5)), fill(0x8a7342, ellipse(112, 86, 2.5, 2.5)),
		both(stroke(0xa58f5f, 2, "M74 86 L78 62")), both(stroke(0xa58f5f, 2, "M68 206 L71 164")), both(stroke(0xa58f5f, 3, "M41 142 L59 146")),
	}},
	{"kurti", []layer{
		fill(0x1f8a83, "M88 26 Q112 48 136 26 L160 36 L178 110 L158 116 L148 82 Q150 130 172 198 Q112 214 52 198 Q74 130 76 82 L66 116 L46 110 L64 36 Z"),
		stroke(0xf0b94a, 4, "M88 27 Q112 52 136 27"), stroke(0xf0b94a, 5, "M54 192 Q112 208 170 192"), both(stroke(0xf0b94a, 4, "M48 104 L66 110")), stroke(0xf0b94a, 3, "M112 44 L112 96"),
		fill(0xf0b94a, ellipse(90, 130, 4, 4)), fill(0xf0b94a, ellipse(134, 130, 4, 4)), fill(0xf0b94a, ellipse(112, 150, 4, 4)), fill(0xf0b94a, ellipse(84, 168, 4, 4)), fill(0xf0b94a, ellipse(140, 168, 4, 4)), fill(0xf0b94a, ellipse(112, 118, 4, 4)),
	}},
	{"sweater", []layer{
		fill(0x4a6b4d, "M86 46 Q112 60 138 46 L166 58 L192 172 L168 178 L154 104 L154 186 L70 186 L70 104 L56 178 L32 172 L58 58 Z"),
		fill(0x38543b, "M70 174 L154 174 L154 190 L70 190 Z"), both(fill(0x38543b, "M34 160 L59 166 L56 180 L31 174 Z")), stroke(0x38543b, 6, "M86 47 Q112 64 138 47"),
		stroke(0xe2dccb, 5, "M70 112 L154 112"), stroke(0xe2dccb, 3, "M70 122 L154 122"), stroke(0x5d8261, 2, "M82 132 L82 172"), stroke(0x5d8261, 2, "M97 132 L97 172"), stroke(0x5d8261, 2, "M112 132 L112 172"), stroke(0x5d8261, 2, "M127 132 L127 172"), stroke(0x5d8261, 2, "M142 132 L142 172"),
		both(stroke(0x38543b, 2, "M70 104 L74 80")),
	}},
	{"sweatshirt", []layer{
		fill(0x6c7078, "M82 58 Q112 24 142 58 L168 68 L192 176 L168 182 L154 110 L154 192 L70 192 L70 110 L56 182 L32 176 L56 68 Z"),
		fill(0x55585f, "M82 60 Q86 34 112 32 Q138 34 142 60 Q112 90 82 60 Z"), fill(0x3e4046, "M92 60 Q94 44 112 42 Q130 44 132 60 Q112 78 92 60 Z"),
		stroke(0x55585f, 3, "M84 184 L90 142 L134 142 L140 184"), fill(0x55585f, "M70 182 L154 182 L154 194 L70 194 Z"), both(fill(0x55585f, "M34 166 L59 172 L56 184 L31 178 Z")),
		stroke(white, 2.5, "M104 76 L102 106"), stroke(white, 2.5, "M120 76 L122 106"),
	}},
	{"jacket", []layer{
		fill(0x2f3b4f, "M84 40 L140 40 L168 54 L194 174 L168 180 L154 102 L154 184 L70 184 L70 102 L56 180 L30 174 L56 54 Z"),
		fill(0x222c3c, "M84 38 L112 52 L140 38 L146 58 L112 68 L78 58 Z"), stroke(silver, 3, "M112 60 L112 184"), fill(0x222c3c, "M70 174 L154 174 L154 188 L70 188 Z"), both(fill(0x222c3c, "M32 164 L58 170 L55 182 L29 176 Z")),
		both(stroke(silver, 2.5, "M82 130 L94 154")), stroke(0x47566f, 3, "M80 92 L104 92"), stroke(0x47566f, 3, "M120 92 L144 92"), fill(silver, "M109 66 L115 66 L115 76 L109 76 Z"),
	}},
	{"vest", []layer{
		fill(0xe9e9e6, "M80 32 L92 32 Q92 78 112 80 Q132 78 132 32 L144 32 Q144 80 164 92 L162 196 L62 196 L60 92 Q80 80 80 32 Z"),
		stroke(0xb9bab8, 3, "M92 32 Q92 78 112 80 Q132 78 132 32"), both(stroke(0xb9bab8, 3, "M80 32 Q80 80 60 92")), stroke(0xb9bab8, 2.5, "M60 92 L62 196 L162 196 L164 92"), stroke(0xd4d5d2, 2, "M62 188 L162 188"), stroke(0xb9bab8, 2, "M80 32 L92 32 M132 32 L144 32"),
	}},
	{"jeans", []layer{
		fill(0x3a5f8f, "M72 26 L152 26 L166 204 L126 206 L112 82 L98 206 L58 204 Z"),
		fill(0x2d4b73, "M72 24 L152 24 L153 40 L71 40 Z"), stroke(0xd8a657, 2, "M112 40 L112 78"), both(stroke(0xd8a657, 2, "M74 44 Q80 64 100 62")), both(stroke(0xd8a657, 1.5, "M66 56 L62 200")), stroke(0xd8a657, 1.5, "M122 42 Q124 66 112 74"), fill(gold, ellipse(112, 32, 3.5, 3.5)),
		both(fill(0x5d82b0, ellipse(84, 112, 9, 26))), both(stroke(0x2d4b73, 2, "M58 196 L98 198")),
	}},
	{"trousers", []layer{
		fill(0x75695b, "M74 22 L150 22 L160 206 L124 206 L112 84 L100 206 L64 206 Z"),
		fill(0x5e5448, "M74 22 L150 22 L151 36 L73 36 Z"), both(stroke(0x5e5448, 2, "M86 46 L82 206")), stroke(0x5e5448, 2, "M112 36 L112 84"), both(stroke(0x5e5448, 2.5, "M78 40 L92 60")), fill(silver, "M108 26 L116 26 L116 32 L108 32 Z"),
	}},
	{"trackpants", []layer{
		fill(0x22252b, "M74 28 L150 28 L164 190 Q144 196 128 190 L112 88 L96 190 Q80 196 60 190 Z"),
		both(fill(white, "M74 44 L79 44 L68 186 L62 186 Z")), both(fill(white, "M83 44 L86 44 L76 188 L73 188 Z")), fill(0x3a3e46, "M73 26 L151 26 L152 42 L72 42 Z"), both(fill(0x3a3e46, "M60 188 L96 188 L94 204 L63 204 Z")), stroke(white, 2.5, "M108 42 L104 66"), stroke(white, 2.5, "M116 42 L120 66"),
	}},
	{"shorts", []layer{
		fill(0xb39a6b, "M64 52 L160 52 L180 166 L122 174 L112 104 L102 174 L44 166 Z"),
		fill(0x947d52, "M64 50 L160 50 L162 66 L62 66 Z"), stroke(0x947d52, 2, "M112 66 L112 104"), both(stroke(0x947d52, 3, "M66 70 L82 98")), both(stroke(0x947d52, 2, "M46 156 L103 164")), fill(0x6d5a38, ellipse(112, 58, 3.5, 3.5)), both(stroke(0x947d52, 2, "M54 118 L78 122 L74 150 L49 146")),
	}},
	{"briefs", []layer{
		fill(0x27477a, "M42 72 L182 72 L178 112 Q142 122 132 168 L92 168 Q82 122 46 112 Z"),
		fill(0xd7dbe2, "M40 66 L184 66 L183 86 L41 86 Z"), stroke(0x27477a, 2, "M42 76 L182 76"), stroke(0x1b3560, 2.5, "M96 86 Q92 124 104 166"), stroke(0x1b3560, 2.5, "M128 86 Q132 124 120 166"), both(stroke(0x1b3560, 3, "M46 112 Q82 122 92 168")),
	}},
	{"socks", []layer{
		fill(0xd9822b, "M70 34 L108 34 L108 128 Q110 142 96 154 L72 178 Q56 194 40 180 Q30 168 44 156 L66 136 Q70 130 70 120 Z"),
		fill(0xf3f0e8, "M70 34 L108 34 L108 56 L70 56 Z"), fill(0x3b4a6b, "M40 160 L58 186 Q48 188 40 180 Q32 170 40 160 Z"), stroke(0x3b4a6b, 4, "M70 72 L108 72 M70 90 L108 90"),
		fill(0xd9822b, "M136 34 L174 34 L174 128 Q176 142 162 154 L138 178 Q122 194 106 180 Q96 168 110 156 L132 136 Q136 130 136 120 Z"),
		fill(0xf3f0e8, "M136 34 L174 34 L174 56 L136 56 Z"), fill(0x3b4a6b, "M106 160 L124 186 Q114 188 106 180 Q98 170 106 160 Z"), stroke(0x3b4a6b, 4, "M136 72 L174 72 M136 90 L174 90"),
	}},
}
