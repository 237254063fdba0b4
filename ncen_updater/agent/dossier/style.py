"""How the page looks, on a screen and on A4 paper."""

STYLE = """
@page { size: A4; margin: 18mm 16mm 20mm 16mm; }
* { box-sizing: border-box; }
html { font: 10.5pt/1.45 "Liberation Sans", "DejaVu Sans", Arial, sans-serif; color: #1a1a1a; }
body { max-width: 178mm; margin: 0 auto; padding: 8mm 0; background: #fff; }
h1 { font-size: 20pt; line-height: 1.2; margin: 0 0 2mm; }
h2 { font-size: 13pt; margin: 8mm 0 2mm; padding-bottom: 1mm; border-bottom: 1.5pt solid #1f3a5f;
  color: #1f3a5f; break-after: avoid; }
h3 { font-size: 11pt; margin: 4mm 0 1mm; break-after: avoid; }
p { margin: 0 0 2mm; orphans: 3; widows: 3; }
p.sub { color: #555; margin-bottom: 5mm; }
p.note { white-space: pre-line; }
table { width: 100%; border-collapse: collapse; margin: 0 0 3mm; }
th, td { text-align: left; vertical-align: top; padding: 1.2mm 2mm; border-bottom: 0.5pt solid #ccc;
  overflow-wrap: anywhere; }
thead { display: table-header-group; }
thead th { border-bottom: 1pt solid #555; font-size: 9.5pt; }
tr { break-inside: avoid; }
.pairs th { width: 36%; font-weight: 600; }
.key { border: 1.5pt solid #1f3a5f; padding: 3mm 4mm; margin: 0 0 4mm; break-inside: avoid; }
.key table { margin: 0; }
.key tr:last-child > * { border-bottom: 0; }
.key td { font-size: 11.5pt; }
.risk { margin: 0; padding-left: 5mm; }
.risk li { margin-bottom: 1.5mm; }
.sign td { height: 16mm; }
.sign th { width: 18%; }
.sign th:first-child, .sign th:last-child { width: 30%; }
.sign { break-inside: avoid; }
.last { break-inside: avoid; }
code { font: 9.5pt/1.4 "Liberation Mono", "DejaVu Sans Mono", monospace; overflow-wrap: anywhere; }
.last .pairs th { width: 22%; }
.last .pairs code { font-size: 8.5pt; }
.digest { font-size: 11pt; letter-spacing: 0.2pt; }
@media screen and (max-width: 190mm) { body { padding: 4mm; } }
"""
