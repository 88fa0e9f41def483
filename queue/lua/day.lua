-- day returns the date of a Unix time (s) in UTC as YYYY-MM-DD. Redis gives scripts no calendar. Years begin in March
-- here, so that a leap day is the last one of its year.
local function day(seconds)
  local days = math.floor(seconds / 86400) + 719468 -- since 0000-03-01
  local era = math.floor(days / 146097)             -- of 400 years
  local rest = days - era * 146097
  local year = math.floor((rest - math.floor(rest / 1460) + math.floor(rest / 36524) - math.floor(rest / 146096)) / 365)
  local of_year = rest - (365 * year + math.floor(year / 4) - math.floor(year / 100))
  local month = math.floor((5 * of_year + 2) / 153)
  local of_month = of_year - math.floor((153 * month + 2) / 5) + 1
  year = year + era * 400
  if month < 10 then
    month = month + 3
  else
    month, year = month - 9, year + 1
  end
  return string.format("%04d-%02d-%02d", year, month, of_month)
end
