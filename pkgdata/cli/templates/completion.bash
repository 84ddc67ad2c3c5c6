_pkgdata() {
  local IFS=$'\n'
  COMPREPLY=($(pkgdata complete-words "${COMP_WORDS[@]:1:COMP_CWORD}" 2>/dev/null))
}
complete -o default -F _pkgdata pkgdata
