//! The completions of bash, zsh and fish: commands, options, keys, and the words of those values
//! that are one of a few.

use heartwheel::config::Config;
use heartwheel::program::{CommandWord, Flag};

use super::{all_commands, all_flags, assert_text, fault_of, keys_of_the_default_program};

#[test]
fn the_completions_know_what_the_program_knows() {
    assert_text("examples/service/heartwheel.bash", &bash());
    assert_text("examples/service/_heartwheel", &zsh());
    assert_text("examples/service/heartwheel.fish", &fish());
}

/// Gives the keys whose values are one of a few words, with these. They stand in the rule that a
/// wrong value is told of: "must be pause or close".
fn choices() -> Vec<(&'static str, Vec<String>)> {
    let words_of = |name: &'static str| {
        let error = fault_of(name);
        let (_, rule) = error.split_once(": must be ")?;
        let words: Vec<_> = rule.split(" or ").map(String::from).collect();
        let is_value =
            |word: &String| !word.contains(' ') && Config::default().set(name, word).is_ok();
        words.iter().all(is_value).then_some((name, words))
    };
    let found: Vec<_> =
        keys_of_the_default_program().filter_map(|key| words_of(key.name)).collect();
    assert!(found.iter().any(|(name, words)| *name == "log" && words.len() == 6), "{found:?}");
    found
}

/// Gives the words for the value of an option.
fn choices_of(flag: &Flag) -> Option<String> {
    let found = choices().into_iter().find(|(name, _)| flag.key() == Some(*name));
    found.map(|(_, words)| words.join(" "))
}

fn names(separator: &str) -> String {
    all_commands().map(|command| command.name).collect::<Vec<_>>().join(separator)
}

/// Gives all spellings of an option.
fn spellings(flag: &Flag) -> Vec<String> {
    let short = flag.short.map(|letter| format!("-{letter}"));
    short.into_iter().chain([format!("--{}", flag.long)]).collect()
}

const MADE: &str = "Made from the program's own tables: BLESS=1 cargo test --test packaging";

fn bash() -> String {
    let options: Vec<_> = all_flags().flat_map(spellings).collect();
    let keys: String =
        keys_of_the_default_program().map(|key| format!("            {}=\n", key.name)).collect();
    let mut values = String::new();
    for flag in all_flags().filter(|flag| flag.value.is_some()) {
        let what = match (flag.value, choices_of(flag)) {
            (Some("FILE"), _) => "compopt -o filenames; _heartwheel_words -f; return".into(),
            (Some("DIR"), _) => "compopt -o filenames; _heartwheel_words -d; return".into(),
            (Some("KEY=VALUE"), _) => "words=$keys; compopt -o nospace".into(),
            (_, Some(words)) => format!("words='{words}'"),
            _ => "return".into(),
        };
        values += &format!("        {}) {what} ;;\n", spellings(flag).join(" | "));
    }
    for (name, words) in choices() {
        values += &format!("        {name}=) words='{}' ;;\n", words.join(" "));
    }
    format!(
        r#"# bash completion for heartwheel. {MADE}
# shellcheck shell=bash

_heartwheel_words() {{ mapfile -t COMPREPLY < <(compgen "$@" -- "$word"); }}

_heartwheel() {{
    local word=${{COMP_WORDS[COMP_CWORD]}} before=${{COMP_WORDS[COMP_CWORD - 1]}} words='' index
    local keys='
{keys}    '
    # bash makes a word of each `=`: what stands before it says what comes after.
    if [ "$word" = = ]; then
        word='' before=$before=
    elif [ "$before" = = ]; then
        before=${{COMP_WORDS[COMP_CWORD - 2]}}=
    fi
    case $before in --*=) before=${{before%=}} ;; esac
    case $before in
{values}        *=) return ;;
        *)
            if [[ $word == -* ]]; then
                words='{options}'
            else
                words='{commands}'
                for ((index = 1; index < COMP_CWORD; index++)); do
                    case ${{COMP_WORDS[index]}} in {alternatives}) return ;; esac
                done
            fi
            ;;
    esac
    _heartwheel_words -W "$words"
}}

complete -F _heartwheel heartwheel
"#,
        options = options.join(" "),
        commands = names(" "),
        alternatives = names(" | "),
    )
}

fn zsh() -> String {
    let keys: String = keys_of_the_default_program()
        .map(|key| format!("        '{}:{}'\n", key.name, quoted(key.meaning)))
        .collect();
    let values: String = choices()
        .iter()
        .map(|(name, words)| format!("            {name}) compadd {} ;;\n", words.join(" ")))
        .collect();
    let mut options = String::new();
    for flag in all_flags() {
        let meaning = quoted(flag.meaning).replace('[', "\\[").replace(']', "\\]");
        let action = match (flag.value, choices_of(flag)) {
            (None, _) => String::new(),
            (Some("FILE"), _) => ":file:_files".into(),
            (Some("DIR"), _) => ":folder:_files -/".into(),
            (Some("KEY=VALUE"), _) => ":setting:_heartwheel_setting".into(),
            (Some(value), Some(words)) => format!(":{value}:({words})"),
            (Some(value), None) => format!(":{value}: "),
        };
        for spelling in spellings(flag) {
            let (may_repeat, value) = match (flag.value, flag.short) {
                (None, _) if flag.long == "json" => ("", ""),
                (None, _) => ("(- *)", ""),
                (Some(_), _) if spelling.starts_with("--") => ("*", "="),
                (Some(_), _) => ("*", "+"),
            };
            options += &format!("        '{may_repeat}{spelling}{value}[{meaning}]{action}' \\\n");
        }
    }
    let commands: String = all_commands()
        .map(|CommandWord { name, meaning, .. }| format!("        '{name}:{}'\n", quoted(meaning)))
        .collect();
    format!(
        r#"#compdef heartwheel
# zsh completion for heartwheel. {MADE}

_heartwheel_setting() {{
    local -a keys=(
{keys}    )
    if compset -P '*='; then
        case ${{${{IPREFIX%=}}##*=}} in
{values}        esac
    else
        _describe -t keys key keys -S =
    fi
}}

_heartwheel_command() {{
    local -a commands=(
{commands}    )
    _describe -t commands command commands
}}

_heartwheel() {{
    _arguments -s \
{options}        ':command:_heartwheel_command'
}}

_heartwheel "$@"
"#
    )
}

fn fish() -> String {
    let keys: String = keys_of_the_default_program()
        .map(|key| {
            format!("    printf '%s\\t%s\\n' {}= '{}'\n", key.name, fish_quoted(key.meaning))
        })
        .collect();
    let values: String = choices()
        .iter()
        .map(|(name, words)| format!("    printf '%s\\n' {name}={{{}}}\n", words.join(",")))
        .collect();
    let mut text = format!(
        "# fish completion for heartwheel. {MADE}\n\n\
         function __heartwheel_settings\n{keys}{values}end\n\ncomplete -c heartwheel -f\n"
    );
    for CommandWord { name, meaning, .. } in all_commands() {
        text += &format!(
            "complete -c heartwheel -n 'not __fish_seen_subcommand_from {}' -a {name} -d '{}'\n",
            names(" "),
            fish_quoted(meaning),
        );
    }
    for flag in all_flags() {
        let short = flag.short.map_or(String::new(), |letter| format!(" -s {letter}"));
        let value = match (flag.value, choices_of(flag)) {
            (None, _) => String::new(),
            (Some("FILE"), _) => " -rF".into(),
            (Some("DIR"), _) => " -xa '(__fish_complete_directories)'".into(),
            (Some("KEY=VALUE"), _) => " -xa '(__heartwheel_settings)'".into(),
            (Some(_), Some(words)) => format!(" -xa '{words}'"),
            (Some(_), None) => " -x".into(),
        };
        let meaning = fish_quoted(flag.meaning);
        text += &format!("complete -c heartwheel{short} -l {}{value} -d '{meaning}'\n", flag.long);
    }
    text
}

/// Quotes what stands between quotation marks in zsh, where a colon ends a word.
fn quoted(text: &str) -> String {
    text.replace('\'', "'\\''").replace(':', "\\:")
}

fn fish_quoted(text: &str) -> String {
    text.replace('\'', "\\'")
}
