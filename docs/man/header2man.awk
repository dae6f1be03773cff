# SPDX-License-Identifier: BSD-3-Clause
# header2man.awk - cut man pages from the comments of mc.h:
#   awk -v out=DIR -v version=V -f header2man.awk mc.h   writes DIR/man3/mc_*.3 and DIR/man7/mc.7
# One page per comment and the declarations right behind it; the other functions of such a group get a link to it.
# A comment's lines "Word: text" become sections, "@name: text" arguments. Plain awk (mawk, gawk, busybox).

function esc(s)
{
	gsub(/\\/, "\\e", s)
	gsub(/-/, "\\-", s)
	if (s ~ /^[.']/)
		s = "\\\\&" s
	return s
}

# Bold for statuses, references for functions with a page.
function mark(s,    rest, word)
{
	s = esc(s)
	rest = ""
	while (match(s, /MC_[A-Z_]*[A-Z]|mc_[a-z_]*[a-z]\(\)/)) {
		word = substr(s, RSTART, RLENGTH)
		rest = rest substr(s, 1, RSTART - 1)
		if (word ~ /\(\)$/)
			rest = rest "\\fB" substr(word, 1, length(word) - 2) "\\fR(3)"
		else
			rest = rest "\\fB" word "\\fR"
		s = substr(s, RSTART + RLENGTH)
	}
	return rest s
}

function trim(s) { sub(/^[ \t]+/, "", s); sub(/[ \t]+$/, "", s); return s }

function func_name(decl,    s)
{
	s = decl
	sub(/\(void \(\*/, "(", s)
	match(s, /mc_[a-z0-9_]*\(/)
	return substr(s, RSTART, RLENGTH - 1)
}

# ---- reading -----------------------------------------------------------------------------------------------------

function end_group() { in_group = 0; comment_n = 0 }

function add_decl(line, note,    name)
{
	if (!in_group) {
		in_group = 1
		group_n++
		g_count[group_n] = 0
		g_section[group_n] = section
		g_lines[group_n] = comment_n
		for (i = 1; i <= comment_n; i++)
			g_line[group_n, i] = comment[i]
	}
	name = func_name(line)
	g_count[group_n]++
	g_func[group_n, g_count[group_n]] = name
	g_decl[group_n, g_count[group_n]] = line
	g_note[group_n, g_count[group_n]] = note
	page_of[name] = g_func[group_n, 1]
}

# A word that opens a section may also stand behind a sentence.
function comment_line(s)
{
	sub(/[ \t]*\*\/[ \t]*$/, "", s)
	sub(/^[ \t]*\/?\*+[ \t]?/, "", s)
	while (match(s, /\. (Return|Owner|Done|Cost|Threads|Protocol|Since):/)) {
		comment[++comment_n] = substr(s, 1, RSTART)
		s = substr(s, RSTART + 2)
	}
	if (trim(s) != "")
		comment[++comment_n] = s
}

NR == 2, /\*\// {
	if (!head_done) {
		line = $0
		sub(/^[ \t]*\/?\*+\/?[ \t]?/, "", line)
		if (trim(line) != "")
			head[++head_n] = line
		if ($0 ~ /\*\//)
			head_done = 1
		next
	}
}

/^\/\* ---- / {
	section = $0
	gsub(/^\/\* -+ | -+ \*\/$/, "", section)
	end_group()
	next
}

/^[ \t]*X\(MC_/ {
	line = $0
	sub(/.*X\(/, "", line)
	split(line, part, /, */)
	text = line
	sub(/^[^"]*"/, "", text)
	sub(/".*/, "", text)
	status_n++
	status_name[status_n] = part[1]
	status_num[status_n] = part[2]
	status_text[status_n] = text
	next
}

in_type {
	type_text[type_name] = type_text[type_name] "\n" $0
	if ($0 ~ /^};/)
		in_type = 0
	next
}
/^(struct|enum) mc_[a-z_]* \{/ {
	type_name = $1 " " $2
	type_text[type_name] = ""
	for (i = 1; i <= comment_n; i++)
		type_text[type_name] = type_text[type_name] (i == 1 ? "/* " : " * ") trim(comment[i]) (i == comment_n ? " */" : "") "\n"
	type_text[type_name] = type_text[type_name] $0
	end_group()
	if ($0 !~ /};/)
		in_type = 1
	next
}

in_comment {
	comment_line($0)
	if ($0 ~ /\*\//)
		in_comment = 0
	next
}
/^\/\*\*/ {
	end_group()
	comment_line($0)
	if ($0 !~ /\*\//)
		in_comment = 1
	next
}

in_decl {
	decl = decl " " trim($0)
	if ($0 ~ /;/) {
		in_decl = 0
		add_decl(decl, "")
	}
	next
}
/^MC_API / {
	line = $0
	note = ""
	if (match(line, /\/\*\*<.*\*\//)) {
		note = substr(line, RSTART + 4, RLENGTH - 6)
		line = substr(line, 1, RSTART - 1)
	}
	sub(/^MC_API (MC_CHECK )?/, "", line)
	if (line ~ /;/) {
		add_decl(trim(line), trim(note))
	} else {
		decl = trim(line)
		in_decl = 1
	}
	next
}
/^$/ { end_group() }

# ---- writing -----------------------------------------------------------------------------------------------------

function print_type(name, file,    i, n, part)
{
	if (!(name in type_text) || (name in printed))
		return
	printed[name] = 1
	n = split(type_text[name], part, "\n")
	print "\n.nf" > file
	for (i = 1; i <= n; i++) {
		gsub(/\t/, "    ", part[i])
		print esc(part[i]) > file
	}
	print ".fi" > file
	print_types_in(type_text[name], file)
}

# A prototype, broken behind commas so that it fits a terminal.
function print_decl(decl, file,    line, n, i, part)
{
	n = split(decl, part, ", ")
	line = part[1]
	for (i = 2; i <= n; i++) {
		if (length(line) + length(part[i]) > 70) {
			print "\\fB" esc(line) ",\\fR" > file
			line = "        " part[i]
		} else {
			line = line ", " part[i]
		}
	}
	print "\\fB" esc(line) "\\fR" > file
}

function print_types_in(text, file,    s, name)
{
	s = text
	while (match(s, /(struct|enum) mc_[a-z_]*/)) {
		name = substr(s, RSTART, RLENGTH)
		s = substr(s, RSTART + RLENGTH)
		print_type(name, file)
	}
}

# What a function is about that only fills in a structure: the structure's own comment.
function type_summary(decl,    s, text)
{
	s = decl
	while (match(s, /struct mc_[a-z_]*/)) {
		text = type_text[substr(s, RSTART, RLENGTH)]
		s = substr(s, RSTART + RLENGTH)
		if (text ~ /^\/\* /) {
			sub(/^\/\* /, "", text)
			sub(/( \*\/)?\n.*/, "", text)
			return text
		}
	}
	return ""
}

# First sentence of a group's comment or of its functions' notes, for NAME.
function summary(g,    s, i)
{
	s = g_lines[g] > 0 ? g_line[g, 1] : ""
	if (s ~ /^mc_[a-z_]*\(\) - /)
		sub(/^[^-]*- /, "", s)
	else if (s ~ /^(Return|Owner|Done):/)
		s = ""
	for (i = 1; s == "" && i <= g_count[g]; i++)
		s = g_note[g, i]
	if (s == "")
		s = type_summary(g_decl[g, 1])
	if (s == "")
		s = g_section[g]
	gsub(/ \([^)]+\)/, "", s)
	sub(/ \([^)]*$/, "", s)
	sub(/[.;:?] .*/, "", s)
	if (length(s) > 72)
		sub(/, .*/, "", s)
	sub(/[.;:,]$/, "", s)
	gsub(/@/, "", s)
	if (s !~ /^[A-Z][A-Z]/)
		s = tolower(substr(s, 1, 1)) substr(s, 2)
	return s
}

function heading(word)
{
	if (word == "Return") return "RETURN VALUE"
	return toupper(word)
}

function print_body(g, file,    i, s, word, args)
{
	args = 0
	for (i = 1; i <= g_lines[g]; i++) {
		s = trim(g_line[g, i])
		if (i == 1 && s ~ /^mc_[a-z_]*\(\) - /) {
			sub(/^[^-]*- /, "", s)
			s = toupper(substr(s, 1, 1)) substr(s, 2)
			# The headline is a sentence of its own unless the next line goes on with it.
			if (i == g_lines[g] || trim(g_line[g, i + 1]) !~ /^[a-z(]/)
				sub(/[^.:;,]$/, "&.", s)
		}
		if (match(s, /^@[a-z_]+(, @[a-z_]+)*:/)) {
			word = substr(s, 1, RLENGTH - 1)
			gsub(/@/, "", word)
			if (!args)
				print ".SH ARGUMENTS" > file
			args = 1
			print ".TP\n.I " word > file
			s = trim(substr(s, RLENGTH + 1))
		} else if (match(s, /^(Return|Owner|Done|Cost|Threads|Protocol|Since):/)) {
			word = substr(s, 1, RLENGTH - 1)
			print ".SH " heading(word) > file
			s = trim(substr(s, RLENGTH + 1))
		}
		# @name inside a sentence is an argument's name.
		s = mark(s)
		while (match(s, /@[a-z_]+/))
			s = substr(s, 1, RSTART - 1) "\\fI" substr(s, RSTART + 1, RLENGTH - 1) "\\fR" substr(s, RSTART + RLENGTH)
		print s > file
	}
}

function write_page(g,    file, first, i, names)
{
	first = g_func[g, 1]
	file = out "/man3/" first ".3"
	split("", printed)
	names = first
	for (i = 2; i <= g_count[g]; i++)
		names = names ", " g_func[g, i]
	print ".\\\" Made from runtime/mc.h; do not edit." > file
	print ".TH " toupper(first) " 3 \"\" \"mc " version "\" \"mc\"" > file
	print ".SH NAME\n" esc(names) " \\- " esc(summary(g)) > file
	print ".SH SYNOPSIS\n.nf\n#include <mc.h>\n" > file
	for (i = 1; i <= g_count[g]; i++)
		print_decl(g_decl[g, i], file)
	print ".fi" > file
	for (i = 1; i <= g_count[g]; i++)
		print_types_in(g_decl[g, i], file)
	print ".SH DESCRIPTION" > file
	print_body(g, file)
	for (i = 1; i <= g_count[g]; i++) {
		if (g_note[g, i] != "")
			print ".TP\n.BR " g_func[g, i] " ()\n" mark(g_note[g, i]) > file
	}
	print ".SH SEE ALSO\n.BR mc (7),\n.BR mc\\-env (7)" > file
	close(file)
	for (i = 2; i <= g_count[g]; i++) {
		file = out "/man3/" g_func[g, i] ".3"
		print ".so man3/" first ".3" > file
		close(file)
	}
}

function write_overview(    file, i, j, last, s)
{
	file = out "/man7/mc.7"
	print ".\\\" Made from runtime/mc.h; do not edit." > file
	print ".TH MC 7 \"\" \"mc " version "\" \"mc\"" > file
	print ".SH NAME\nmc \\- move KV\\-cache blocks between the ranks of a job" > file
	print ".SH SYNOPSIS\n.nf\n#include <mc.h>\n\ncc PROGRAM.c $(pkg\\-config \\-\\-cflags \\-\\-libs mc)\n.fi" > file
	print ".SH DESCRIPTION" > file
	for (i = 2; i <= head_n; i++) {
		s = trim(head[i])
		if (s ~ /^- /) {
			print ".IP \\(bu 2" > file
			s = substr(s, 3)
		}
		print mark(s) > file
	}
	print ".SH FUNCTIONS" > file
	for (i = 1; i <= group_n; i++) {
		if (g_section[i] != last)
			print ".SS " esc(g_section[i]) > file
		last = g_section[i]
		s = ""
		for (j = 1; j <= g_count[i]; j++)
			s = s (j > 1 ? ", " : "") "\\fB" g_func[i, j] "\\fR(3)"
		print ".TP\n" s "\n" esc(summary(i)) > file
	}
	print ".SH STATUSES\n\\-1 to \\-29: only this call failed; \\-30 to \\-59: the peer is lost; \\-60 to \\-89: the context is lost." > file
	for (i = 1; i <= status_n; i++)
		print ".TP\n.BR " status_name[i] " \" (" esc(status_num[i]) ")\"\n" esc(status_text[i]) > file
	print ".SH SEE ALSO\n.BR mcrun (1),\n.BR mcperf (1),\n.BR mc\\-env (7)" > file
	close(file)
}

END {
	for (g = 1; g <= group_n; g++)
		write_page(g)
	write_overview()
	if (group_n == 0 || status_n == 0) {
		print "header2man: found no functions or no statuses in " FILENAME > "/dev/stderr"
		exit 1
	}
}
