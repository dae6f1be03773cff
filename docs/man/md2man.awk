# SPDX-License-Identifier: BSD-3-Clause
# md2man.awk - a man page from the part of Markdown that our pages use:
#   awk -v page=mcrun.1 -v version=V -f md2man.awk mcrun.1.md > mcrun.1
# Headings, paragraphs, lists, definition lists ("term" / ":   text"), code blocks (fenced or indented), tables (first column as
# term), **bold**, *italic*, `code`, [text](link). Plain awk (mawk, gawk, busybox).

function esc(s)
{
	gsub(/\\/, "\\e", s)
	gsub(/-/, "\\-", s)
	return s
}

# A line that starts with a dot or a quote would be a request.
function guard(s) { return s ~ /^[.']/ ? "\\&" s : s }

# Replace pairs of `mark` by font changes; what stands between is taken as it is.
function fonts(s, mark, font,    at, len, left, rest, p, b, a)
{
	left = ""
	len = length(mark)
	while ((at = index(s, mark)) > 0) {
		rest = substr(s, at + len)
		p = index(rest, mark)
		b = at > 1 ? substr(s, at - 1, 1) : " "
		a = substr(rest, 1, 1)
		# An opening mark has a word behind it, not a blank; "a * b" and MC_* are no emphasis.
		if (p < 2 || a ~ /[ \t]/ || (mark == "*" && b ~ /[A-Za-z0-9_]/)) {
			left = left substr(s, 1, at + len - 1)
			s = rest
			continue
		}
		left = left substr(s, 1, at - 1) "\\f" font substr(rest, 1, p - 1) "\\fR"
		s = substr(rest, p + len)
	}
	return left s
}

# Code first, hidden from the other marks; then links, bold, italic.
function inline(s,    n, i, out, part)
{
	n = split(s, part, "`")
	out = ""
	for (i = 1; i <= n; i++) {
		if (i % 2 == 0 && i < n) {
			out = out "\\fB" esc(part[i]) "\\fR"
			continue
		}
		if (i % 2 == 0)
			out = out "`"
		s = esc(part[i])
		while (match(s, /\[[^\]]+\]\([^)]*\)/)) {
			link = substr(s, RSTART, RLENGTH)
			sub(/\]\(.*/, "", link)
			s = substr(s, 1, RSTART - 1) substr(link, 2) substr(s, RSTART + RLENGTH)
		}
		gsub(/\\e\*/, "\001", s)
		s = fonts(s, "**", "B")
		s = fonts(s, "*", "I")
		gsub("\001", "*", s)
		gsub(/\\e/, "\\", s)
		gsub(/\\</, "<", s)
		out = out s
	}
	return guard(out)
}

function say(s) { print s }

# The lines of a paragraph together, since what is marked may begin in one and end in the next.
function flush(    i, text, hard)
{
	if (para_n == 0)
		return
	if (!tight)
		say(indent ? ".IP" : ".PP")
	text = ""
	for (i = 1; i <= para_n; i++) {
		hard = sub(/(  |\\)$/, "", para[i]) # a line that is to end here
		text = text (text == "" ? "" : " ") para[i]
		if (!hard && i < para_n)
			continue
		say(inline(text))
		if (hard)
			say(".br")
		text = ""
	}
	para_n = 0
	tight = 0
}

function code_begin() { flush(); say(".PP\n.RS 4\n.nf"); in_code = 1 }
function code_end() { say(".fi\n.RE"); in_code = 0 }

BEGIN {
	name = page
	sub(/\.[1-8]$/, "", name)
	sect = page
	sub(/.*\./, "", sect)
	printf ".\\\" Made from docs/man/%s.md; do not edit.\n.TH %s %s \"\" \"mc %s\" \"mc\"\n", page, toupper(name), sect, version
}

/^```/ {
	if (in_fence) {
		in_fence = 0
		code_end()
	} else {
		code_begin()
		in_fence = 1
	}
	next
}
in_fence { line = $0; gsub(/\t/, "        ", line); say(guard(esc(line))); next }

in_code && !/^(    |\t)/ && !/^$/ { code_end() }
in_code {
	line = $0
	sub(/^(    |\t)/, "", line)
	say(guard(esc(line)))
	next
}

/^<!--/ { comment = 1 }
comment { if (/-->/) comment = 0; next }
/^% / { next }
/^#+ / {
	flush()
	indent = 0
	level = index($0, " ") - 1
	title = $0
	sub(/^#+ +/, "", title)
	sub(/ +#+$/, "", title)
	if (title ~ /^[a-z-]+\([1-8]\)/ && level == 1) {
		# "# mcrun(1) - start ranks": the page's title; its text is NAME unless there is such a section.
		sub(/^[a-z-]+\([1-8]\)[ -]*/, "", title)
		next
	}
	if (!base)
		base = level
	if (level <= base)
		say(".SH " toupper(inline(title)))
	else
		say(".SS " inline(title))
	tight = 1
	next
}
/^[ \t]*$/ { flush(); blank = 1; next }

# term, then ":   text"
/^:[ \t]+/ {
	line = $0
	sub(/^:[ \t]+/, "", line)
	if (para_n > 0) {
		say(".TP")
		term = ""
		for (i = 1; i <= para_n; i++)
			term = term (i > 1 ? " " : "") para[i]
		say(inline(term))
		para_n = 0
	} else {
		say(".IP")
	}
	indent = 1
	tight = 1
	para[++para_n] = line
	next
}
/^[-*] / {
	flush()
	say(".IP \\(bu 2")
	indent = 1
	tight = 1
	para[++para_n] = substr($0, 3)
	blank = 0
	next
}
/^[0-9]+\. / {
	flush()
	line = $0
	sub(/ .*/, "", line)
	say(".IP " line " 4")
	indent = 1
	tight = 1
	line = $0
	sub(/^[0-9]+\. +/, "", line)
	para[++para_n] = line
	blank = 0
	next
}
/^\|/ {
	line = $0
	gsub(/\\\|/, "\002", line)
	n = split(line, cell, "|")
	if (line ~ /^\|[-: |]+$/) {
		in_table = 1 # the row before was the heading
		next
	}
	if (!in_table) {
		flush()
		next
	}
	say(".TP")
	for (i = 2; i < n; i++) {
		gsub("\002", "|", cell[i])
		sub(/^ +/, "", cell[i])
		sub(/ +$/, "", cell[i])
		if (cell[i] != "")
			say(inline(cell[i]))
	}
	indent = 0
	tight = 0
	blank = 0
	next
}
{ in_table = 0 }
/^(    |\t)/ && para_n == 0 && !indent { code_begin(); line = $0; sub(/^(    |\t)/, "", line); say(guard(esc(line))); next }
/^(      |\t\t)/ && para_n == 0 && indent && blank { code_begin(); line = $0; sub(/^(    |\t)/, "", line); say(guard(esc(line))); next }
{
	line = $0
	if (blank && line !~ /^[ \t]/)
		indent = 0
	blank = 0
	sub(/^[ \t]+/, "", line)
	para[++para_n] = line
}
END {
	if (in_code)
		code_end()
	flush()
}
