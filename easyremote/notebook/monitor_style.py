"""How the monitor looks.

Colours are the page's own (currentColor), with two more, a blue and an orange, that keep three to one against white and black and
differ for the colour-blind; what they say is said in words or by a shape as well. JupyterLab has rules of its own for tables in
outputs, hence what is important here.
"""

STYLE = """<style>
.er-mon{--er-fg:var(--jp-content-font-color1,var(--vscode-foreground,var(--colab-primary-text-color,inherit)));
--er-blue:#2f7fc4;--er-orange:#c8640f;--er-line:color-mix(in srgb,currentColor 16%,transparent);
--er-dim:color-mix(in srgb,currentColor 70%,transparent);--er-soft:color-mix(in srgb,currentColor 7%,transparent);
color:var(--er-fg);font-family:var(--jp-ui-font-family,system-ui,sans-serif);font-size:13px;line-height:1.35;
font-variant-numeric:tabular-nums}
.er-mon *{box-sizing:border-box}
.er-head{display:flex;flex-wrap:wrap;gap:.1em 1.1em;align-items:baseline;padding:2px 0 4px}
.er-head b{font-size:15px}
.er-head>span,.er-dim{color:var(--er-dim)}
.er-grid{display:grid;grid-template-columns:7em 5.6em 8.2em 10.8em minmax(7em,1fr) 4.2em;gap:0 .8em;align-items:center;
min-height:30px;white-space:nowrap}
.er-calls{grid-template-columns:7.6em 9em minmax(12em,1.4fr) 7em minmax(6em,1fr)}
.er-cols{color:var(--er-dim);min-height:22px}.er-cols span{font-size:12px}
.er-mon .er-cut{overflow:hidden;text-overflow:ellipsis}
.er-gauge{display:inline-flex;align-items:center;gap:.45em;white-space:nowrap}
.er-mon svg{display:block;flex:none;overflow:visible}
.er-area{fill:var(--er-blue);opacity:.2}.er-trace{fill:none;stroke:var(--er-blue);stroke-width:1.4;vector-effect:non-scaling-stroke}
.er-high .er-area{fill:var(--er-orange);opacity:.28}.er-high .er-trace{stroke:var(--er-orange)}
.er-base{stroke:var(--er-line);stroke-width:1;vector-effect:non-scaling-stroke}
.er-bar{display:inline-block;width:3.4em;height:.62em;border-radius:.31em;background:var(--er-line);overflow:hidden;flex:none}
.er-bar i{display:block;height:100%;background:var(--er-blue);border-radius:.31em}
.er-high .er-bar i{background:repeating-linear-gradient(135deg,var(--er-orange) 0 4px,#e39a55 4px 6px)}
.er-wide{width:100%;min-width:5em;flex:1}
.er-gpu{display:flex;flex-wrap:wrap;gap:.1em .8em;align-items:center;padding:2px 0}.er-gpu .er-bar{width:2.4em}
.er-st,.er-saved td>b:first-child{white-space:nowrap}
.er-mark{display:inline-block;width:1.2em;color:var(--er-blue)}.er-odd .er-mark,.er-warn{color:var(--er-orange)}
.er-h{font-weight:600;margin:.7em 0 .15em;font-size:13px}
.er-mon table{border-collapse:collapse;width:100%;table-layout:auto!important;margin:0;
font-size:13px;color:inherit;background:transparent}
.er-mon th{font-weight:400;color:var(--er-dim);font-size:12px;text-align:left!important;padding:2px 1em 2px 0;
border:none;border-bottom:1px solid var(--er-line)}
.er-mon td{text-align:left!important;vertical-align:top!important;
padding:3px 1em 3px 0;border:none;border-bottom:1px solid var(--er-line)}
.er-mon tr{background:transparent!important}
.er-mon dl{display:grid;grid-template-columns:max-content 1fr;gap:.15em 1.2em;margin:.4em 0}
.er-mon dt{color:var(--er-dim);font-weight:400;white-space:nowrap}.er-mon dd{margin:0;overflow-wrap:anywhere}
.er-charts{display:flex;flex-wrap:wrap;gap:.8em 1.6em;margin:.5em 0}
.er-chart{width:15em}.er-chart div{display:flex;justify-content:space-between;gap:1em;white-space:nowrap}
.er-tail{display:flex;flex-direction:column-reverse;max-height:16em;overflow:auto;margin:.2em 0;background:var(--er-soft);
border-radius:4px}
.er-mon pre{flex:none;overflow:visible;margin:0;padding:.5em .7em;background:transparent;
color:inherit;font-family:var(--jp-code-font-family,monospace);font-size:12px;white-space:pre-wrap;overflow-wrap:anywhere}
.er-note{padding:.3em .7em;border-left:3px solid var(--er-orange);background:var(--er-soft);margin:.3em 0}
.er-told{border-left-color:var(--er-blue)}
.er-row{border-bottom:1px solid color-mix(in srgb,currentColor 10%,transparent)}
.er-row .widget-html,.er-row .widget-html-content{margin:0!important;line-height:1.35}
.er-row .widget-html-content{width:100%}
.er-wrap .widget-button.er-name{background:none!important;color:var(--jp-content-link-color,#2f7fc4)!important;text-align:left;
padding:0 .3em;box-shadow:none!important;border-radius:3px;font-weight:600}
.er-wrap .widget-button.er-name:hover{text-decoration:underline}
.er-wrap button:focus-visible,.er-wrap input:focus-visible,.er-wrap select:focus-visible{outline:2px solid #2f7fc4!important;
outline-offset:1px}
</style>"""
